"""Box algebra of [n 4] tensors as ONNX operators."""

from collections.abc import Sequence

import numpy as np

from lga_jax.exporting.onnx_writer.graph import Tensor, concat
from lga_jax.ops.boxes import MAX_LOG_RATIO


def decode(deltas: Tensor, anchors: Tensor, weights: Sequence[float]) -> Tensor:
    """Boxes of deltas [n 4] for anchors [n 4], as in lga_jax.ops.boxes.decode."""
    deltas = deltas / np.asarray(weights, np.float32)
    low, high = anchors.slice(1, 0, 2), anchors.slice(1, 2, 4)
    size = high - low
    centre = low + 0.5 * size + deltas.slice(1, 0, 2) * size
    half = 0.5 * size * deltas.slice(1, 2, 4).minimum(MAX_LOG_RATIO).apply("Exp")
    return concat([centre - half, centre + half], axis=1)


def clip(boxes: Tensor, limit: Tensor) -> Tensor:
    """Moves corners outside the image onto its border. `limit`: (width, height, width, height)."""
    return boxes.maximum(0.0).minimum(limit)


def shortest_side(boxes: Tensor) -> Tensor:
    """The smaller one of width and height of each box."""
    return (boxes.slice(1, 2, 4) - boxes.slice(1, 0, 2)).reduce("Min", 1)
