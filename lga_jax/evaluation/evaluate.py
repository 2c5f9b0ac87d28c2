"""Evaluates a model on a source: every image exactly once, on any number of devices and processes."""

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from tqdm import tqdm

from lga_jax.data.batches.loader import EvalLoader
from lga_jax.data.faulty import check_data
from lga_jax.data.source import Source, open_source, truth_of
from lga_jax.errors import UserError
from lga_jax.evaluation.analysis import Analysis, analyse
from lga_jax.evaluation.losses import LossMeter, LossStep
from lga_jax.evaluation.lvis import metrics
from lga_jax.evaluation.mask_hits import AttentionStatistics, ChallengeAP, ap_per_challenge, measure_attention
from lga_jax.evaluation.segm import segm_metrics, with_masks
from lga_jax.inference.coco_results import CocoResults
from lga_jax.inference.locate import locate
from lga_jax.inference.predictor import Predictor, load
from lga_jax.inference.step import PredictStep
from lga_jax.recipe import check


class EvalResult(NamedTuple):
    """The result of an evaluation."""

    summary: dict[str, float]  # COCO's twelve numbers or LVIS's, nan without objects; of masks too, as "segm/AP"
    per_class: dict[str, float]  # AP by class name, nan without objects
    detections: list[dict]  # COCO results, in the order of the source's images
    num_images: int
    num_non_finite: int  # omitted detections with nan or inf
    challenges: list[ChallengeAP]  # empty unless the source has challenges
    attention: AttentionStatistics | None  # None without annotated parts or without Gaussian masks
    analysis: Analysis | None = None  # None during training
    segm_per_class: dict[str, float] | None = None  # AP of the masks; None without a mask head or without true masks
    segm_analysis: Analysis | None = None  # with the IoU of masks; None as segm_per_class
    losses: dict[str, float] | None = None  # means over the images; None unless asked for during training


def evaluate(
    model: str | os.PathLike | Predictor,
    data: Source | Mapping[str, Any] | ConfigDict | None = None,
    *,
    recipe: ConfigDict | str | os.PathLike | None = None,
    step: int | str | None = None,
    progress: bool = False,
) -> EvalResult:
    """Computes COCO's metrics of a trained model on annotated images, and analyses its errors.

    Args:
        model: the folder of a run, or a Predictor.
        data: a Source, or settings in the form of data.eval; None: data.eval of the recipe.
        recipe: only with the folder of a run: the recipe to use instead of the checkpoint's.
        step: only with the folder of a run: the checkpoint, as in `load`; None: the best.
        progress: show a progress bar.

    Raises:
        UserError: the checkpoint is missing, the data cannot be read or have no boxes, or their classes are not the
            model's.
    """
    predictor = model if isinstance(model, Predictor) else load(model, "best" if step is None else step, recipe)
    if predictor is model and not (recipe is None and step is None):
        raise UserError(
            "recipe, step",
            expected="None for both with a Predictor, which has its own recipe and step",
            found="a recipe or a step",
            remedy="use the folder of the run instead of the Predictor",
        )
    source = open_data(predictor, data)
    images_per_device = -(-predictor.recipe.batch_size // jax.local_device_count())
    truth = truth_of(source)
    results = _open_results(source, truth)
    with _bar(len(source.records), progress) as bar:
        max_faulty = predictor.recipe.data.max_faulty
        for located in predictor.locate(source, batch_size=images_per_device, max_faulty=max_faulty):
            results.add(located)
            bar.update(len(located.index))
    return summarise(source, truth, results, analysed=True)


def open_data(predictor: Predictor, data: Source | Mapping[str, Any] | ConfigDict | None = None) -> Source:
    """The source for `evaluate`.

    Raises UserError if its classes are not the model's, or if it has no boxes or too many faults (`check_data`).
    """
    if data is None:
        data = predictor.recipe.data.eval
        if not data:
            raise UserError(
                "data",
                expected="the annotated images to score an exported detector on",
                found="none",
                remedy="docs/api.md shows settings for them",
            )
    source = open_source(**_checked(predictor, data)) if isinstance(data, Mapping | ConfigDict) else data
    if not isinstance(source, Source):
        raise UserError(
            "data",
            expected="a source, or settings such as dict(source='coco_json', root=..., annotations=..., images=...)",
            found=repr(data),
            remedy="docs/api.md shows an example",
        )
    predictor.check_classes(source)
    check_data("data.eval", source, predictor.recipe.data)
    return source


def _checked(predictor: Predictor, data: Mapping[str, Any] | ConfigDict) -> ConfigDict:
    """Settings of a caller, checked as data.eval of the predictor's recipe. Raises UserError."""
    recipe = ConfigDict(predictor.recipe.to_dict(), type_safe=False)
    recipe.data.eval = ConfigDict(dict(data))
    return check(recipe, own=("data.train", "model.backbone", "model.attention")).data.eval


def score_source(
    predict_step: PredictStep,
    variables: Mapping[str, Any],
    source: Source,
    data_config: ConfigDict,
    batch_size: int,
    should_stop: Callable[[], bool],
    progress: bool,
    loss_step: LossStep | None = None,
    object_masks: bool = False,
) -> EvalResult | None:
    """Evaluates variables during training on every image of the source; every process returns the same result.

    Args:
        predict_step: the compiled prediction step.
        variables: parameters and statistics, replicated over the devices.
        source: the annotated images.
        data_config: the recipe's `data` section.
        batch_size: images per batch over all devices and processes, a multiple of the number of devices.
        should_stop: called between batches. If it returns True in any process, all processes return None.
        progress: show a progress bar with images per second.
        loss_step: compute these losses too.
        object_masks: the losses need the masks of the objects.
    """
    truth = truth_of(source)
    results = _open_results(source, truth)
    loader = EvalLoader(
        source,
        data_config,
        batch_size,
        jax.local_devices(),
        max_faulty=data_config.max_faulty,
        with_targets=loss_step is not None,
        object_masks=object_masks,
    )
    meter = LossMeter(loss_step, variables) if loss_step else None
    with closing(loader), _bar(len(source.records), progress) as bar:
        for located in locate(predict_step, variables, meter.watch(loader) if meter else loader):
            results.add(located)
            bar.update(min(int((located.index >= 0).sum()) * jax.process_count(), bar.total - bar.n))
            if _any_process(should_stop()):
                return None
    results.gather()
    result = summarise(source, truth, results)
    return result._replace(losses=meter.means() if meter else None)


def summarise(source: Source, truth: dict, results: CocoResults, analysed: bool = False) -> EvalResult:
    """Metrics of the detections of all images. `truth`: the ground truth of the source."""
    detections = results.in_source_order()
    boxes = metrics(truth, detections)
    masked = with_masks(source, truth) if results.have_masks else None
    segm = segm_metrics(masked, detections) if masked else None
    return EvalResult(
        summary=boxes.summary | (segm.summary if segm else {}),
        per_class=boxes.per_class,
        detections=detections,
        num_images=len(source.records),
        num_non_finite=results.num_non_finite,
        challenges=ap_per_challenge(truth, detections),
        attention=measure_attention(truth, detections),
        analysis=analyse(truth, detections) if analysed else None,
        segm_per_class=segm and segm.per_class,
        segm_analysis=analyse(masked, detections, "segm") if analysed and masked else None,
    )


def _open_results(source: Source, truth: dict) -> CocoResults:
    ids = {category["name"]: category["id"] for category in truth["categories"]}
    return CocoResults(source.records, [ids[name] for name in source.class_names])


def _any_process(flag: bool) -> bool:
    # A signal may reach only one process; without agreement the others wait for it in the next collective operation.
    return flag if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.array(flag)).any())


def _bar(num_images: int, progress: bool) -> tqdm:
    return tqdm(total=num_images, desc="evaluating", unit="image", leave=False, disable=not progress)
