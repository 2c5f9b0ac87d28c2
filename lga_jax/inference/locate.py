"""Detections of batches, on the host."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from lga_jax.inference.step import PredictStep
from lga_jax.processes.mesh import local_rows
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
    return jax.tree.map(lambda leaf: np.concatenate(local_rows(leaf)), Located(index, scale_hw, detections))


def without_filling(located: Located) -> Located:
    """The rows with an image, without padding."""
    return jax.tree.map(lambda leaf: leaf[located.index >= 0], located)
