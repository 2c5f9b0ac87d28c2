"""Compares evaluations of several runs on the same images."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

import msgspec
import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from lga_jax.data.object_masks import parse_mask
from lga_jax.data.source import fingerprint_of, open_source, truth_of
from lga_jax.errors import UserError, listed, shown
from lga_jax.evaluation.analysis import Analysis, analyse
from lga_jax.evaluation.bootstrap import Interval, Samples, bootstrap, differences, draw_weights, intervals
from lga_jax.evaluation.segm import with_masks
from lga_jax.recipe import check, flatten, load
from lga_jax.stores.copies import files_to_read
from lga_jax.stores.place import is_url

_FILES = ("metrics.json", "detections.json")


class _Metrics(TypedDict):
    """The keys of metrics.json that are read."""

    step: int
    data: str
    recipe: dict[str, Any]


class _Rle(TypedDict):
    size: tuple[int, int]
    counts: str


class _Detection(TypedDict):
    """The keys of a detection that are read."""

    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float
    segmentation: NotRequired[_Rle]


class Evaluation(NamedTuple):
    """What eval.py wrote about a run."""

    name: str  # the path as given
    where: str  # the folder, as the user would name it
    folder: Path  # the same, or a local copy
    metrics: dict[str, Any]
    detections: list[dict]


class Scores(NamedTuple):
    """The scores of one run."""

    name: str
    step: int
    values: dict[str, Interval]  # AP, AP50, AP75, AP_small .. AP_large, 'AP CLASS' of each class; masks: segm/AP ..
    differences: dict[str, Interval]  # to the first run, on the same bootstrap samples
    analysis: Analysis
    segm_analysis: Analysis | None  # with the IoU of masks; None unless all runs have masks, and the data too


class Comparison(NamedTuple):
    """Several runs on the same images; the first one is the baseline."""

    runs: list[Scores]
    num_images: int
    num_samples: int
    recipes: dict[str, list[Any]]  # keys with different values, and the value of each run; None: no such key


@contextmanager
def read_evaluations(paths: Sequence[str]) -> Iterator[list[Evaluation]]:
    """Reads evaluations. A path is an eval_STEP folder or a folder that contains exactly one, local or in a bucket.

    Raises UserError. Local copies of a bucket's files are removed at the end.
    """
    with ExitStack() as stack:
        yield [_read(path, stack) for path in paths]


def _read(path: str, stack: ExitStack) -> Evaluation:
    # An evaluation in a bucket is copied with the metrics of its run.
    within = re.fullmatch(r"(.+)/(eval_\d+)/?", path) if is_url(path) else None
    workdir, step = within.groups() if within else (path, "")
    local = stack.enter_context(
        files_to_read(workdir, "metrics.jsonl", *(f"{step or 'eval_*'}/{name}" for name in _FILES))
    )
    folder = _find(path, Path(local, step))
    where = os.path.join(workdir, folder.relative_to(local)) if is_url(path) else str(folder)
    metrics, detections = (_read_json(folder / name, f"{where}/{name}") for name in _FILES)
    if not _has_types(metrics, _Metrics):
        raise UserError(
            f"{where}/{_FILES[0]}",
            expected="step, data and recipe of the evaluation",
            found="a file of an earlier version",
            remedy="evaluate again",
        )
    if not _has_types(detections, list[_Detection]):
        raise UserError(
            f"{where}/{_FILES[1]}",
            expected="detections with image_id, category_id, bbox and score",
            found="other content",
            remedy="evaluate again",
        )
    return Evaluation(path, where, folder, metrics, detections)


def compare(evaluations: Sequence[Evaluation], num_samples: int) -> Comparison:
    """Compares evaluations with `num_samples` bootstrap samples of the images.

    Raises UserError if they are of different images, or the images' annotations cannot be opened.
    """
    source = open_source(**_images_of(evaluations[0]))
    _check_same_images(evaluations, fingerprint_of(source))
    truth = truth_of(source)
    for evaluation in evaluations:
        _check_known(evaluation, truth)
    weights = draw_weights(len(truth["images"]), num_samples)
    masked = with_masks(source, truth) if all(map(_has_masks, evaluations)) else None
    samples = [_bootstrap(evaluation.detections, truth, masked, weights) for evaluation in evaluations]
    runs = [_scores(entry, own, samples[0], truth, masked) for entry, own in zip(evaluations, samples, strict=True)]
    recipes = differing([evaluation.metrics["recipe"] for evaluation in evaluations])
    return Comparison(runs, len(truth["images"]), num_samples, recipes)


def differing(recipes: Sequence[dict]) -> dict[str, list[Any]]:
    """The keys whose values are not equal in all recipes, with all values."""
    flat = [flatten(recipe) for recipe in recipes]
    keys = sorted({key for recipe in flat for key in recipe})
    table = {key: [recipe.get(key) for recipe in flat] for key in keys}
    return {key: values for key, values in table.items() if any(value != values[0] for value in values)}


def _has_masks(evaluation: Evaluation) -> bool:
    """Whether the masks of all detections were scored."""
    scored = evaluation.metrics.get("segm_per_class") is not None
    return scored and all("segmentation" in detection for detection in evaluation.detections)


def _bootstrap(detections: list[dict], truth: dict, masked: dict | None, weights: Int[np.ndarray, "b n"]) -> Samples:
    """`masked`: the ground truth with masks, if they are compared too."""
    boxes = bootstrap(truth, detections, weights)
    if masked is None:
        return boxes
    masks = bootstrap(masked, detections, weights, "segm")
    return Samples(boxes.value | masks.value, boxes.samples | masks.samples)


def _scores(evaluation: Evaluation, own: Samples, baseline: Samples, truth: dict, masked: dict | None) -> Scores:
    return Scores(
        name=evaluation.name,
        step=evaluation.metrics["step"],
        values=intervals(own),
        differences=differences(own, baseline),
        analysis=analyse(truth, evaluation.detections),
        segm_analysis=None if masked is None else analyse(masked, evaluation.detections, "segm"),
    )


def _find(path: str, local: Path) -> Path:
    if (local / _FILES[0]).is_file():
        return local
    found = sorted(folder.parent for folder in local.glob(f"eval_*/{_FILES[0]}"))
    if len(found) == 1:
        return found[0]
    raise UserError(
        path,
        expected="an evaluation, eval_STEP/metrics.json",
        found=listed([folder.name for folder in found]),
        remedy=f"name one of them, such as {os.path.join(path, found[0].name)}" if found else "run eval.py first",
    )


def _read_json(path: Path, where: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(where, expected="a file", found=str(error.strerror), remedy="evaluate again") from error
    except (ValueError, RecursionError) as error:
        raise UserError(where, expected="JSON", found="a damaged file", remedy="evaluate again") from error


def _has_types(content: object, type_: Any) -> bool:
    try:
        msgspec.convert(content, type_)
    except (msgspec.ValidationError, RecursionError):
        return False
    return True


def _images_of(evaluation: Evaluation) -> ConfigDict:
    """The checked data.eval of an evaluation. Its other keys may be those of another version."""
    section = evaluation.metrics["recipe"]
    for key in ("data", "eval"):
        section = section.get(key) if isinstance(section, dict) else None
    recipe = load("coco")
    try:
        recipe.data.eval = _as_config(section if isinstance(section, dict) else {})
        return check(recipe, own=("data.train", "model.backbone", "model.attention")).data.eval
    except UserError as error:
        fault = getattr(error, "faults", (error,))[0]
        raise fault.within(f"{evaluation.where}/{_FILES[0]}") from error


def _as_config(recipe: dict) -> ConfigDict:
    try:
        return ConfigDict(recipe)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:  # keys that it rejects
        raise UserError("recipe", expected="sections with the keys of a recipe", found=type(error).__name__) from error


def _check_known(evaluation: Evaluation, truth: dict) -> None:
    """All detections must be of images and categories of the ground truth."""
    for key, section in (("image_id", "images"), ("category_id", "categories")):
        known = {entry["id"] for entry in truth[section]}
        unknown = [detection[key] for detection in evaluation.detections if detection[key] not in known]
        if unknown:
            raise UserError(
                f"{evaluation.where}/{_FILES[1]}",
                expected=f"the {section} of data.eval",
                found=f"{key} {shown(unknown[0])} and {len(unknown) - 1} more that are not among them",
                remedy="evaluate again",
            )
    _check_masks(evaluation, truth)


def _check_masks(evaluation: Evaluation, truth: dict) -> None:
    """Masks must be RLE of their images: libraries read beyond the memory of other codes."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    for detection in evaluation.detections:
        if "segmentation" in detection:
            mask = parse_mask(detection["segmentation"], sizes[detection["image_id"]], np.zeros(4))
            if mask in ("mask_malformed", "mask_size"):
                raise UserError(
                    f"{evaluation.where}/{_FILES[1]}",
                    expected="masks as RLE of their images' pixels",
                    found=f"another mask in image {shown(detection['image_id'])}",
                    remedy="evaluate again",
                )


def _check_same_images(evaluations: Sequence[Evaluation], fingerprint: str) -> None:
    """All evaluations must be of the images and annotations of the first one, as they are now."""
    for evaluation in evaluations:
        if evaluation.metrics["data"] != fingerprint:
            raise UserError(
                evaluation.name,
                expected=f"an evaluation of the images of data.eval of {evaluations[0].name}",
                found="other images or annotations",
                remedy="evaluate all runs on the same data",
            )
