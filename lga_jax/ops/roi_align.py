"""RoIAlign over a feature pyramid (Mask R-CNN section 3; level rule: FPN eq. 1).

Each output cell is a weighted sum of 4 sampling_ratio^2 feature vectors: for each sample point a weighted gather of its
four neighbours for the whole [r s s c] result, which XLA fuses without a larger intermediate. The backward pass is the
same number of scatter-adds.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from lga_jax.ops.boxes import area

CANONICAL_SIZE = 224.0  # an object of this side, in pixels, ...
CANONICAL_LEVEL = 4  # ... is pooled from this level
FINEST_LEVEL = 2


@jax.custom_vjp
def weighted_gather(
    table: Float[Array, "n c"], index: Int[Array, "t *o"], weight: Float[Array, "t *o"]
) -> Float[Array, "*o c"]:
    """sum_t weight[t] * table[index[t]], t a multiple of 4; differentiable in `table` only."""
    return _gather_forward(table, index, weight)[0]


def _gather_forward(table: Array, index: Array, weight: Array) -> tuple[Array, tuple]:
    def add_point(point: int | Array, total: Array) -> Array:
        for neighbour in range(4):
            term = 4 * point + neighbour
            total += table[index[term]].astype(jnp.float32) * weight[term][..., None]
        return total

    # A loop over sample points whose body XLA fuses. Unrolled over all points, the program that also has the backward
    # pass is no longer fused, keeps every gather in memory at once and takes nearly twice as long.
    zeros = jnp.zeros((*index.shape[1:], table.shape[1]), jnp.float32)
    total = jax.lax.fori_loop(0, index.shape[0] // 4, add_point, zeros)
    # Only shape and dtype of the table are needed backward; an empty slice carries them.
    return total.astype(table.dtype), (table[:, :0], index, weight)


def _gather_backward(residual: tuple, cotangent: Array) -> tuple[Array, np.ndarray, Array]:
    empty, index, weight = residual
    cotangent = cotangent.astype(jnp.float32)

    def scatter(term: Array, total: Array) -> Array:
        return total.at[index[term]].add(cotangent * weight[term][..., None])

    zeros = jnp.zeros((empty.shape[0], cotangent.shape[-1]), jnp.float32)
    grad = jax.lax.fori_loop(0, index.shape[0], scatter, zeros)
    return grad.astype(empty.dtype), np.zeros(index.shape, jax.dtypes.float0), jnp.zeros_like(weight)


weighted_gather.defvjp(_gather_forward, _gather_backward)


def pyramid_level(boxes: Float[Array, "r 4"], num_levels: int) -> Int[Array, "r"]:
    """Index of the level each box is pooled from, 0 the finest: floor(4 + log2(sqrt(area) / 224)), clipped."""
    level = jnp.floor(CANONICAL_LEVEL + jnp.log2(jnp.sqrt(area(boxes)) / CANONICAL_SIZE + 1e-8))
    return jnp.clip(level.astype(jnp.int32) - FINEST_LEVEL, 0, num_levels - 1)


def _axis_samples(
    start: Float[Array, "r"], extent: Float[Array, "r"], limit: Int[Array, "r"], crop_size: int, sampling_ratio: int
) -> tuple[Array, Array]:
    """Along one axis: the two neighbouring cells of every sample point, and their weights; both [2, q, r, s]."""
    offsets = (np.arange(crop_size)[None, :] + (np.arange(sampling_ratio)[:, None] + 0.5) / sampling_ratio) / crop_size
    points = start[:, None] + extent[:, None] * jnp.asarray(offsets, jnp.float32)[:, None, :]  # [q, r, s]
    limit = limit[:, None]
    inside = (points >= -1.0) & (points <= limit)
    points = jnp.clip(points, 0.0, (limit - 1).astype(jnp.float32))
    low = jnp.floor(points).astype(jnp.int32)
    high = jnp.minimum(low + 1, limit - 1)
    fraction = points - low
    cells = jnp.stack([low, high])
    weights = jnp.stack([1.0 - fraction, fraction]) * inside
    return cells, weights


@partial(jax.jit, static_argnames=("strides", "crop_size", "sampling_ratio", "aligned"))
def multilevel_roi_align(
    features: Sequence[Float[Array, "_ _ c"]],
    boxes: Float[Array, "r 4"],
    *,
    strides: tuple[int, ...],
    crop_size: int,
    sampling_ratio: int,
    aligned: bool,
) -> Float[Array, "r {crop_size} {crop_size} c"]:
    """Crops every box from the pyramid level that fits its size; crop_size^2 cells, sampling_ratio^2 points a cell.

    `aligned` subtracts half a cell, so that feature (0, 0) stands for the centre of its cell (Detectron2); without it
    boxes are at least one cell wide (torchvision's default). Points more than one cell outside the map count as zero.
    Differentiable in the features; the boxes get no gradient.
    """
    boxes = jax.lax.stop_gradient(boxes)
    level = pyramid_level(boxes, len(features))
    heights, widths = (jnp.asarray([f.shape[axis] for f in features], jnp.int32) for axis in (0, 1))
    sizes = [f.shape[0] * f.shape[1] for f in features]
    first = jnp.asarray(np.cumsum([0, *sizes[:-1]]), jnp.int32)[level]
    height, width = heights[level], widths[level]

    scaled = boxes * (1.0 / jnp.asarray(strides, jnp.float32))[level][:, None] - (0.5 if aligned else 0.0)
    extent = scaled[:, 2:] - scaled[:, :2]
    if not aligned:
        extent = jnp.maximum(extent, 1.0)
    xs, x_weights = _axis_samples(scaled[:, 0], extent[:, 0], width, crop_size, sampling_ratio)
    ys, y_weights = _axis_samples(scaled[:, 1], extent[:, 1], height, crop_size, sampling_ratio)

    # Outer product of the axes: (2 q)^2 terms of [r, s, s].
    terms = (2 * sampling_ratio) ** 2
    crop = (boxes.shape[0], crop_size, crop_size)
    xs, x_weights = (v.reshape(1, -1, crop[0], 1, crop_size) for v in (xs, x_weights))
    ys, y_weights = (v.reshape(-1, 1, crop[0], crop_size, 1) for v in (ys, y_weights))
    index = first[:, None, None] + ys * width[:, None, None] + xs
    weight = y_weights * x_weights / sampling_ratio**2
    table = jnp.concatenate([f.reshape(-1, f.shape[-1]) for f in features])
    return weighted_gather(table, index.reshape(terms, *crop), weight.reshape(terms, *crop))
