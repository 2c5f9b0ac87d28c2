"""Detection over a whole source and its score: every image exactly once, on any number of devices and processes."""

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from tqdm import tqdm

from lga_jax.data.batches.loader import EvalLoader
from lga_jax.data.source import Source
from lga_jax.evaluation.coco import coco_metrics
from lga_jax.evaluation.mask_hits import AttentionStatistics, ChallengeAP, ap_per_challenge, measure_attention
from lga_jax.inference.coco_results import count_non_finite, to_coco
from lga_jax.inference.compilation import compile_ahead
from lga_jax.inference.step import Located, PredictStep, locate, lower_predictions, make_predict_step
from lga_jax.models.build import build_detector
from lga_jax.structs import Detections


class EvalResult(NamedTuple):
    """The score of a model on a source."""

    summary: dict[str, float]  # COCO's twelve numbers, nan without objects
    per_class: dict[str, float]  # AP by class name, nan without objects
    detections: list[dict]  # COCO results, image after image in the order of the source
    num_images: int
    num_non_finite: int  # detections that held a nan or an infinity and were left out
    challenges: list[ChallengeAP]  # empty unless the source says which challenge an image carries
    attention: AttentionStatistics | None  # None without parts or without Gaussian masks


def evaluate(
    predict_step: PredictStep,
    variables: Mapping[str, Any],
    source: Source,
    data_config: ConfigDict,
    batch_size: int,
    should_stop: Callable[[], bool],
    progress: bool,
) -> EvalResult | None:
    """Scores the model on every image of the source; every process returns the same result.

    Args:
        batch_size: images in a batch over all devices and processes; the devices must divide it.
        should_stop: asked between batches. When any process answers True, all of them return None.
        progress: show a progress bar with images per second.
    """
    located = []
    loader = EvalLoader(source, data_config, batch_size, jax.local_devices())
    bar = tqdm(total=len(source.records), desc="evaluating", unit="image", leave=False, disable=not progress)
    with closing(loader), bar:
        for found in locate(predict_step, variables, loader):
            located.append(found)
            bar.update(min(int((found.index >= 0).sum()) * jax.process_count(), bar.total - bar.n))
            if _any_process(should_stop()):
                return None
    return summarise(source, _in_order(_gather(located), len(source.records)))


def summarise(source: Source, located: Located) -> EvalResult:
    """Metrics of the detections of all images of the source, in its order."""
    truth = source.coco_json()
    ids = {category["name"]: category["id"] for category in truth["categories"]}
    detections = to_coco(
        located.detections,
        located.scale_hw,
        np.array([(record.height, record.width) for record in source.records]),
        [record.image_id for record in source.records],
        [ids[name] for name in source.class_names],
    )
    metrics = coco_metrics(truth, detections)
    return EvalResult(
        summary=metrics.summary,
        per_class=metrics.per_class,
        detections=detections,
        num_images=len(source.records),
        num_non_finite=count_non_finite(located.detections),
        challenges=ap_per_challenge(truth, detections),
        attention=measure_attention(truth, detections),
    )


def _gather(located: list[Located]) -> Located:
    """All batches of all processes as one. Buckets with few anchors may give fewer detections: those are filled up."""
    slots = max(batch.detections.valid.shape[1] for batch in located)
    batches = [batch._replace(detections=_fill_up(batch.detections, slots)) for batch in located]
    mine = jax.tree.map(lambda *leaves: np.concatenate(leaves), *batches)
    if jax.process_count() == 1:
        return mine
    return jax.tree.map(lambda leaf: np.concatenate(multihost_utils.process_allgather(leaf)), mine)


def _fill_up(detections: Detections, slots: int) -> Detections:
    missing = slots - detections.valid.shape[1]
    return jax.tree.map(lambda leaf: np.pad(leaf, [(0, 0), (0, missing)] + [(0, 0)] * (leaf.ndim - 2)), detections)


def _in_order(located: Located, num_images: int) -> Located:
    """Rows in the order of the source. A lost or repeated image would be a silent error in the score."""
    rows = np.flatnonzero(located.index >= 0)
    rows = rows[np.argsort(located.index[rows], kind="stable")]
    if not np.array_equal(located.index[rows], np.arange(num_images)):
        raise RuntimeError(
            f"evaluation: expected each of {num_images} images once, found {len(rows)} rows for "
            f"{len(np.unique(located.index[rows]))} images"
        )
    return jax.tree.map(lambda leaf: leaf[rows], located)


def _any_process(flag: bool) -> bool:
    # A signal may reach one process only; the others would wait for it in the next collective operation.
    return flag if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.array(flag)).any())


def score_model(config: ConfigDict, source: Source, variables: Mapping[str, Any]) -> EvalResult:
    """Compiles and scores the variables (on all local devices) on the source."""
    detector = build_detector(config.model, len(source.class_names))
    num_devices = jax.device_count()
    batch_size = -(-config.batch_size // num_devices) * num_devices  # any number of devices can score any run
    predict_step = make_predict_step(detector, config.inference)
    with closing(EvalLoader(source, config.data, batch_size, jax.local_devices())) as loader:
        compile_ahead(lower_predictions(predict_step, variables, loader))
    return evaluate(
        predict_step,
        variables,
        source,
        config.data,
        batch_size,
        should_stop=lambda: False,
        progress=True,
    )
