"""Detections of single batches and of a whole source, on the host."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Float, Int

from lga_jax.inference.step import PredictStep
from lga_jax.structs import Batch, Detections


class Located(NamedTuple):
    """Detections of a batch on the host, with the scale to convert them to pixels of the stored images."""

    index: Int[np.ndarray, "n"]  # position in the source; -1 in padding rows
    scale_hw: Float[np.ndarray, "n 2"]
    detections: Detections


def locate(predict_step: PredictStep, variables: Mapping[str, Any], batches: Iterable[Batch]) -> Iterator[Located]:
    """Detections batch by batch; the devices process the next batch while the caller uses this one."""
    ahead = None
    for batch in batches:
        started = batch.index, batch.scale_hw, predict_step(variables, batch)
        if ahead is not None:
            yield _to_host(*ahead)
        ahead = started
    if ahead is not None:
        yield _to_host(*ahead)


def _to_host(index: jax.Array, scale_hw: jax.Array, detections: Detections) -> Located:
    # np.concatenate joins the first two axes of an array, also with m = 0, where reshape(-1, ...) fails.
    return jax.tree.map(lambda leaf: np.concatenate(np.asarray(leaf)), Located(index, scale_hw, detections))


def without_filling(located: Located) -> Located:
    """The rows with an image, without padding."""
    return jax.tree.map(lambda leaf: leaf[located.index >= 0], located)


def join(batches: Sequence[Located]) -> Located:
    """Joins all batches. Batches with fewer detection slots, from buckets with few anchors, are padded."""
    slots = max(batch.detections.valid.shape[1] for batch in batches)
    filled = [batch._replace(detections=_fill_up(batch.detections, slots)) for batch in batches]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *filled)


def gather(located: Located) -> Located:
    """The detections of all processes."""
    if jax.process_count() == 1:
        return located
    return jax.tree.map(lambda leaf: np.concatenate(multihost_utils.process_allgather(leaf)), located)


def in_source_order(located: Located, num_images: int) -> Located:
    """One row per image in the order of the source. Raises RuntimeError if an image is missing or repeated."""
    rows = np.flatnonzero(located.index >= 0)
    rows = rows[np.argsort(located.index[rows], kind="stable")]
    if not np.array_equal(located.index[rows], np.arange(num_images)):
        raise RuntimeError(
            f"evaluation: expected each of {num_images} images once, found {len(rows)} rows for "
            f"{len(np.unique(located.index[rows]))} images"
        )
    return jax.tree.map(lambda leaf: leaf[rows], located)


def _fill_up(detections: Detections, slots: int) -> Detections:
    missing = slots - detections.valid.shape[1]
    return jax.tree.map(lambda leaf: np.pad(leaf, [(0, 0), (0, missing)] + [(0, 0)] * (leaf.ndim - 2)), detections)
