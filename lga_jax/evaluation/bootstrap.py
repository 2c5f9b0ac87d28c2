"""AP of resampled sets of images: how much a score depends on the choice of the evaluated images.

A bootstrap sample draws as many images as the set has, with replacement; an image that is drawn twice counts twice.
Detectors that are compared get the same samples, so the interval of a difference is narrower than those of the scores.
The intervals hold for other images of the same kind. They do not contain the variation between training seeds.

hotcoco's own `compare` counts an image that is drawn twice only once. Its intervals are a quarter too narrow (a test
shows it), so only its matching is used here.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import hotcoco
import numpy as np
from jaxtyping import Bool, Float, Int

from lga_jax.data.federated import has_lists
from lga_jax.evaluation.coco import as_datasets, in_order
from lga_jax.evaluation.segm import PREFIX

AREAS = ("all", "small", "medium", "large")
_MOST_NUMBERS = 4_000_000  # of one array


class Outcomes(NamedTuple):
    """The matched detections of one class within one range of areas, highest score first."""

    image: Int[np.ndarray, "d"]  # position of the image among the sorted ids
    correct: Bool[np.ndarray, "t d"]  # at each IoU
    counted: Bool[np.ndarray, "t d"]  # False: matched with a crowd, or outside the range of areas
    num_objects: Int[np.ndarray, "n"]  # in each image


class Samples(NamedTuple):
    """Scores of the whole set and of each bootstrap sample; nan without objects."""

    value: dict[str, float]
    samples: dict[str, Float[np.ndarray, "b"]]


class Interval(NamedTuple):
    """A value and the limits between which 95 % of the bootstrap samples lie."""

    value: float
    low: float
    high: float


def draw_weights(num_images: int, count: int, seed: int = 0) -> Int[np.ndarray, "b n"]:
    """How often each image is in each of `count` bootstrap samples."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=count)


def outcomes(ground_truth: dict, detections: list[dict], kind: str = "bbox") -> dict[str, dict[str, Outcomes]]:
    """Area -> class -> outcomes, at COCO's ten IoUs with at most 100 detections per image and class, 300 for LVIS.

    The arguments are as for `coco_metrics`.
    """
    image_ids = in_order(image["id"] for image in ground_truth["images"])
    datasets = map(hotcoco.COCO, as_datasets(ground_truth, detections, image_ids, kind))
    evaluation = hotcoco.COCOeval(*datasets, kind, lvis_style=has_lists(ground_truth))
    evaluation.evaluate()
    area_of = {tuple(bounds): name for name, bounds in zip(AREAS, evaluation.params.area_rng, strict=True)}
    groups = defaultdict(list)
    for entry in filter(None, evaluation.eval_imgs):
        groups[area_of[tuple(entry["aRng"])], entry["category_id"]].append(entry)
    return {
        area: {
            category["name"]: _joined(groups[area, category["id"]], len(image_ids))
            for category in ground_truth["categories"]
        }
        for area in AREAS
    }


def average_precision(found: Outcomes, weights: Int[np.ndarray, "b n"]) -> Float[np.ndarray, "b t"]:
    """COCO's interpolated AP at each IoU, with every image counted as often as its weight says; nan without objects."""
    step = max(1, _MOST_NUMBERS // max(1, found.correct.size))
    parts = [_average_precision(found, weights[start : start + step]) for start in range(0, len(weights), step)]
    return np.concatenate(parts)


def bootstrap(
    ground_truth: dict, detections: list[dict], weights: Int[np.ndarray, "b n"], kind: str = "bbox"
) -> Samples:
    """AP, AP50, AP75, AP of each size, and 'AP CLASS' of each class; for "segm" with PREFIX."""
    num_images = len(ground_truth["images"])
    weights = np.concatenate([np.ones((1, num_images), weights.dtype), weights])
    tables = {
        area: np.stack([average_precision(entry, weights) for entry in classes.values()], axis=-1)
        for area, classes in outcomes(ground_truth, detections, kind).items()
    }  # [b t k]
    columns = {"AP": _mean(tables["all"]), "AP50": _mean(tables["all"][:, :1]), "AP75": _mean(tables["all"][:, 5:6])}
    columns |= {f"AP_{area}": _mean(tables[area]) for area in AREAS[1:]}
    for label, category in enumerate(ground_truth["categories"]):
        columns[f"AP {category['name']}"] = _mean(tables["all"][..., label : label + 1])
    prefix = PREFIX if kind == "segm" else ""
    return Samples(
        {f"{prefix}{name}": float(column[0]) for name, column in columns.items()},
        {f"{prefix}{name}": column[1:] for name, column in columns.items()},
    )


def intervals(samples: Samples) -> dict[str, Interval]:
    """The interval of each score."""
    return {name: _interval(value, samples.samples[name]) for name, value in samples.value.items()}


def differences(samples: Samples, baseline: Samples) -> dict[str, Interval]:
    """The interval of each score minus that of the baseline, which needs the same weights."""
    return {
        name: _interval(value - baseline.value[name], samples.samples[name] - baseline.samples[name])
        for name, value in samples.value.items()
    }


def is_clear(difference: Interval) -> bool:
    """Whether the interval of a difference excludes zero."""
    return difference.low > 0 or difference.high < 0


def _interval(value: float, samples: Float[np.ndarray, "b"]) -> Interval:
    usable = samples[np.isfinite(samples)]
    if not len(usable) or not np.isfinite(value):
        return Interval(value, np.nan, np.nan)
    return Interval(value, *np.percentile(usable, (2.5, 97.5)).tolist())


def _mean(values: Float[np.ndarray, "b t k"]) -> Float[np.ndarray, "b"]:
    """The mean over IoUs and the classes with objects."""
    usable = np.isfinite(values)
    counts = usable.sum((1, 2))
    return np.where(counts > 0, np.where(usable, values, 0).sum((1, 2)) / np.maximum(counts, 1), np.nan)


def _joined(entries: list[Mapping], num_images: int) -> Outcomes:
    """Outcomes of the images of one class. As in pycocotools, equal scores keep the order of the images."""
    entries = sorted(entries, key=lambda entry: entry["image_id"])
    num_objects = np.zeros(num_images, np.int64)
    for entry in entries:
        num_objects[entry["image_id"]] = np.count_nonzero(np.logical_not(entry["gtIgnore"]))
    sizes = [len(entry["dtScores"]) for entry in entries]
    scores = np.concatenate([np.zeros(0), *(entry["dtScores"] for entry in entries)])
    image = np.repeat(np.array([entry["image_id"] for entry in entries], np.int64), sizes)
    order = np.argsort(-scores, kind="stable")
    empty = np.zeros((10, 0), bool)
    correct, ignored = (
        np.concatenate([empty, *(np.array(entry[key], bool).reshape(10, -1) for entry in entries)], axis=1)[:, order]
        for key in ("dtMatched", "dtIgnore")
    )
    return Outcomes(image[order], correct & ~ignored, ~ignored, num_objects)


def _average_precision(found: Outcomes, weights: Int[np.ndarray, "b n"]) -> Float[np.ndarray, "b t"]:
    objects = weights @ found.num_objects  # [b]
    if not found.image.size:
        return np.broadcast_to(np.where(objects > 0, 0.0, np.nan)[:, None], (len(weights), len(found.correct)))
    times = weights[:, None, found.image]  # [b 1 d]
    hits = np.cumsum(times * found.correct, axis=-1)
    total = np.cumsum(times * found.counted, axis=-1)
    recall = hits / np.maximum(objects, 1)[:, None, None]
    precision = hits / np.maximum(total, 1)
    best_after = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    # The number of COCO's 101 recalls up to each detection. Each of them takes the best precision from there on.
    reached = np.searchsorted(np.linspace(0, 1, 101), recall.ravel(), side="right").reshape(recall.shape)
    new = np.diff(reached, axis=-1, prepend=0)
    return np.where(objects[:, None] > 0, (best_after * new).sum(-1) / 101, np.nan)
