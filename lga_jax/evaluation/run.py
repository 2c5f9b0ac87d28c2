"""Detection over a whole source and its score: every image exactly once, on any number of devices and processes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.errors import ScopeCollectionNotFound, ScopeParamNotFoundError, ScopeParamShapeError
from jax.experimental import multihost_utils
from jax.stages import Lowered
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict
from tqdm import tqdm

from lga_jax.data.loader import EvalLoader
from lga_jax.data.records import Source
from lga_jax.errors import UserError
from lga_jax.evaluation.attention import AttentionStatistics, ChallengeAP, ap_per_challenge, measure_attention
from lga_jax.evaluation.coco_metrics import coco_metrics
from lga_jax.evaluation.compilation import size_of
from lga_jax.evaluation.results import count_non_finite, to_coco
from lga_jax.models.detector import Detector
from lga_jax.models.inference import detect
from lga_jax.structs import DEVICE_AXIS, Batch, Detections

# About an image of 800 x 1344. At 800 x 1088 eight images one by one took 0.75 (float32) and 0.6 (bfloat16) of the time
# of all at once, on two cores.
_CPU_PIXELS = 2**20

PredictStep = Callable[[Mapping[str, Any], Batch], Detections]  # with `lower`, as jax's stages have it


class EvalResult(NamedTuple):
    """The score of a model on a source."""

    summary: dict[str, float]  # COCO's twelve numbers, nan without objects
    per_class: dict[str, float]  # AP by class name, nan without objects
    detections: list[dict]  # COCO results, image after image in the order of the source
    num_images: int
    num_non_finite: int  # detections that held a nan or an infinity and were left out
    challenges: list[ChallengeAP]  # empty unless the source says which challenge an image carries
    attention: AttentionStatistics | None  # None without parts or without Gaussian masks


class Located(NamedTuple):
    """Detections of a batch on the host, and what is needed to bring them back to the images as stored."""

    index: Int[np.ndarray, "n"]  # position in the source; -1 in rows that only fill the batch
    scale_hw: Float[np.ndarray, "n 2"]
    detections: Detections


def make_predict_step(detector: Detector, inference: Mapping[str, Any]) -> PredictStep:
    """The pmapped (variables, batch) -> Detections; leaves of both are [local devices, b, ...].

    `inference` holds the keyword arguments of `lga_jax.models.inference.detect`.
    """

    def detect_in(variables: Mapping[str, Any], images: Array, image_hw: Array) -> Detections:
        return detect(detector.apply(variables, images, image_hw), image_hw, **inference)

    def predict(variables: Mapping[str, Any], batch: Batch) -> Detections:
        num_images, inputs = batch.images.shape[0], (batch.images, batch.image_hw)
        at_once = _images_at_once(*batch.images.shape[:3])
        if at_once == num_images:
            return detect_in(variables, *inputs)
        parts = jax.tree.map(lambda leaf: leaf.reshape(-1, at_once, *leaf.shape[1:]), inputs)
        found = jax.lax.map(lambda part: detect_in(variables, *part), parts)
        return jax.tree.map(lambda leaf: leaf.reshape(num_images, *leaf.shape[2:]), found)

    return jax.pmap(predict, axis_name=DEVICE_AXIS, in_axes=(None, 0))


def _images_at_once(batch: int, height: int, width: int) -> int:
    """On CPUs the activations of several large images leave the caches and cost new pages of memory."""
    most = _CPU_PIXELS // (height * width) if jax.default_backend() == "cpu" else batch
    return max(at_once for at_once in range(1, batch + 1) if batch % at_once == 0 and at_once <= max(1, most))


def lower_predictions(
    predict_step: PredictStep, variables: Mapping[str, Any], loader: EvalLoader
) -> dict[str, Lowered]:
    """The program of each bucket that has images, by its name, for `compile_ahead`.

    Raises UserError for variables of another model, such as an earlier version's under the same configuration.
    """
    try:
        return {
            f"evaluation {size_of(batch)}": predict_step.lower(variables, batch) for batch in loader.empty_batches()
        }
    except (ScopeParamNotFoundError, ScopeParamShapeError, ScopeCollectionNotFound) as error:
        found = str(error).split(" (https")[0].rstrip(".")
        raise UserError(
            f"checkpoint: expected the parameters of this version's model, found others ({found}); read it by the "
            "version that wrote it, or train anew"
        ) from None


def locate(predict_step: PredictStep, variables: Mapping[str, Any], batches: Iterable[Batch]) -> Iterator[Located]:
    """Detections batch by batch; the devices work on the next batch while the caller has this one."""
    ahead = None
    for batch in batches:
        started = batch.index, batch.scale_hw, predict_step(variables, batch)
        if ahead is not None:
            yield _to_host(*ahead)
        ahead = started
    if ahead is not None:
        yield _to_host(*ahead)


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


def _to_host(index: jax.Array, scale_hw: jax.Array, detections: Detections) -> Located:
    # Concatenating an array joins its first two axes; reshape(-1, ...) cannot where m is 0.
    return jax.tree.map(lambda leaf: np.concatenate(np.asarray(leaf)), Located(index, scale_hw, detections))


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
