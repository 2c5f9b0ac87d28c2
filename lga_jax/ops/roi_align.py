"""RoIAlign over a feature pyramid (Mask R-CNN section 3; level rule: FPN eq. 1).

Each output cell is the mean of a few sample points; each point is the weighted sum of its four neighbours: weighted
gathers for all cells of all RoIs. On CPUs, and if the number of points depends on the box, a loop runs over the points;
other platforms compute all points at once. The backward pass scatters the same weights.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from lga_jax.ops.boxes import area

CANONICAL_SIZE = 224.0  # an object with this side in pixels is pooled from CANONICAL_LEVEL
CANONICAL_LEVEL = 4  # level n has stride 2^n


class _Axis(NamedTuple):
    """One axis of every RoI, in cells of its pyramid level."""

    start: Float[Array, "r"]
    cell: Float[Array, "r"]  # side of a crop cell
    points: Int[Array, "r"]  # sample points per crop cell
    limit: Int[Array, "r"]  # cells of the level


class _Grid(NamedTuple):
    """Sample points of every RoI in a table with the cells of all levels, row by row."""

    y: _Axis
    x: _Axis
    first: Int[Array, "r"]  # table row of the level's first cell


def pyramid_level(boxes: Float[Array, "r 4"], strides: tuple[int, ...]) -> Int[Array, "r"]:
    """Index of the pyramid level of each box, 0 is the finest: floor(4 + log2(sqrt(area) / 224)), clipped.

    A margin of 1e-6, as in torchvision, makes the rule exact for sides of 112, 224 or 448 pixels despite rounding of
    the logarithm.
    """
    level = jnp.floor(CANONICAL_LEVEL + jnp.log2(jnp.sqrt(area(boxes)) / CANONICAL_SIZE) + 1e-6)
    finest = strides[0].bit_length() - 1
    return jnp.clip(level, finest, finest + len(strides) - 1).astype(jnp.int32) - finest


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
    """Crops every box from the pyramid level for its size: crop_size^2 cells, sampling_ratio^2 points per cell.

    With sampling_ratio 0 the number of points depends on the box, ceil(feature cells / crop_size) along each axis
    (Detectron2's default). The time then grows with the largest number of points of any box, under vmap of any image.
    `aligned` subtracts half a cell, so feature (0, 0) lies at the centre of its cell (Detectron2); without it, boxes
    are at least one cell wide (torchvision's default). Points more than one cell outside the map count as zero.
    Differentiable in the features; the boxes get no gradient.
    """
    boxes = jax.lax.stop_gradient(boxes)
    level = pyramid_level(boxes, strides)
    scaled = boxes * (1.0 / jnp.asarray(strides, jnp.float32))[level][:, None] - (0.5 if aligned else 0.0)

    def axis(number: int) -> _Axis:  # 0: y, 1: x
        start, end = scaled[:, 1 - number], scaled[:, 3 - number]
        extent = end - start if aligned else jnp.maximum(end - start, 1.0)
        points = jnp.full_like(level, sampling_ratio)
        if sampling_ratio == 0:
            points = jnp.ceil(extent / crop_size).astype(jnp.int32)
        limits = jnp.asarray([f.shape[number] for f in features], jnp.int32)
        return _Axis(start, extent / crop_size, points, limits[level])

    sizes = [f.shape[0] * f.shape[1] for f in features]
    first = jnp.asarray(np.cumsum([0, *sizes[:-1]]), jnp.int32)
    table = jnp.concatenate([f.reshape(-1, f.shape[-1]) for f in features])
    return _crop(crop_size, sampling_ratio, table, _Grid(axis(0), axis(1), first[level]))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _crop(crop_size: int, sampling_ratio: int, table: Float[Array, "n c"], grid: _Grid) -> Float[Array, "r s s c"]:
    """Differentiable in `table` only."""
    return _crop_forward(crop_size, sampling_ratio, table, grid)[0]


def _crop_forward(
    crop_size: int, sampling_ratio: int, table: Float[Array, "n c"], grid: _Grid
) -> tuple[Float[Array, "r s s c"], tuple]:
    in_loop = partial(_sum_in_loop, crop_size, sampling_ratio)
    at_once = partial(_sum_at_once, crop_size, sampling_ratio) if sampling_ratio else in_loop
    crops = _by_platform(in_loop, at_once, at_once)(table, grid)
    # The backward pass needs only the shape and dtype of the table; an empty slice has both.
    return crops, (table[:, :0], grid)


def _crop_backward(
    crop_size: int, sampling_ratio: int, residual: tuple, cotangent: Float[Array, "r s s c"]
) -> tuple[Array, _Grid]:
    empty, grid = residual
    rule = (crop_size, sampling_ratio)
    in_loop = partial(_scatter_in_loop, *rule)
    at_once = partial(_scatter_at_once, *rule) if sampling_ratio else in_loop
    gradient = _by_platform(in_loop, in_loop, at_once)(empty, grid, cotangent)
    return gradient, jax.tree.map(_no_gradient, grid)


def _by_platform(cpu: Callable, accelerator: Callable, cuda: Callable) -> Callable:
    """A function of (table, grid, ...) of one image. Under vmap, accelerators process all images as one."""

    @jax.custom_batching.custom_vmap
    def of_image(*arguments: Any) -> Array:
        return jax.lax.platform_dependent(*arguments, cpu=cpu, cuda=cuda, default=accelerator)

    @of_image.def_vmap
    def of_images(axis_size: int, in_batched: list, *arguments: Any) -> tuple[Array, bool]:
        def spread(leaf: Array, batched: bool) -> Array:
            return leaf if batched else jnp.broadcast_to(leaf, (axis_size, *leaf.shape))

        arguments = jax.tree.map(spread, arguments, tuple(in_batched))
        forms = dict(cpu=jax.vmap(cpu), cuda=_of_all_images(cuda), default=_of_all_images(accelerator))
        return jax.lax.platform_dependent(*arguments, **forms), True

    return of_image


def _of_all_images(form: Callable) -> Callable:
    """`form` for (tables [b n c], grids [b r], ...), by one call: the RoIs of all images index one table.

    With a dimension for images, a TPU copies every level into another layout.
    """

    def run(tables: Float[Array, "b n c"], grids: _Grid, *others: Array) -> Array:
        images, rows = tables.shape[:2]
        grids = grids._replace(first=grids.first + rows * jnp.arange(images, dtype=jnp.int32)[:, None])
        table, grid, *others = jax.tree.map(
            lambda leaf: leaf.reshape(images * leaf.shape[1], *leaf.shape[2:]), (tables, grids, *others)
        )
        found = form(table, grid, *others)
        return found.reshape(images, -1, *found.shape[1:])

    return run


def _sum_in_loop(
    crop_size: int, sampling_ratio: int, table: Float[Array, "n c"], grid: _Grid
) -> Float[Array, "r s s c"]:
    """The crops by a loop over sample points, whose body XLA fuses.

    On CPUs the form without a loop is not fused in a program with the backward pass: it keeps all gathers in memory and
    takes nearly twice as long.
    """

    def add_point(point: int | Array, total: Array) -> Array:
        for index, weight in zip(*_neighbours(grid, point, crop_size), strict=True):
            total += table[index].astype(jnp.float32) * weight[..., None]
        return total

    zeros = jnp.zeros((grid.first.shape[0], crop_size, crop_size, table.shape[1]), jnp.float32)
    return jax.lax.fori_loop(0, _num_points(grid, sampling_ratio), add_point, zeros).astype(table.dtype)


def _sum_at_once(
    crop_size: int, sampling_ratio: int, table: Float[Array, "n c"], grid: _Grid
) -> Float[Array, "r s s c"]:
    """The same without a loop: a GPU runs all gathers in one kernel and writes nothing between them."""
    indices, weights = _all_neighbours(grid, sampling_ratio, crop_size)
    terms = zip(jnp.moveaxis(indices, -1, 0), jnp.moveaxis(weights, -1, 0), strict=True)
    return sum(table[index].astype(jnp.float32) * weight[..., None] for index, weight in terms).astype(table.dtype)


def _scatter_in_loop(
    crop_size: int, sampling_ratio: int, empty: Float[Array, "n 0"], grid: _Grid, cotangent: Float[Array, "r s s c"]
) -> Float[Array, "n c"]:
    """The gradient of the table, by a loop over sample points and their neighbours."""
    cotangent = cotangent.astype(jnp.float32)

    def scatter_point(point: int | Array, total: Array) -> Array:
        indices, weights = _neighbours(grid, point, crop_size)

        def scatter(neighbour: int | Array, total: Array) -> Array:
            return total.at[indices[neighbour]].add(cotangent * weights[neighbour][..., None])

        return jax.lax.fori_loop(0, 4, scatter, total)

    zeros = jnp.zeros((empty.shape[0], cotangent.shape[-1]), jnp.float32)
    return jax.lax.fori_loop(0, _num_points(grid, sampling_ratio), scatter_point, zeros).astype(empty.dtype)


def _scatter_at_once(
    crop_size: int, sampling_ratio: int, empty: Float[Array, "n 0"], grid: _Grid, cotangent: Float[Array, "r s s c"]
) -> Float[Array, "n c"]:
    """The same by one scatter of all points; a GPU computes their values inside the kernel that adds them."""
    indices, weights = _all_neighbours(grid, sampling_ratio, crop_size)
    updates = cotangent[..., None, :].astype(jnp.float32) * weights[..., None]
    zeros = jnp.zeros((empty.shape[0], cotangent.shape[-1]), jnp.float32)
    return zeros.at[indices].add(updates).astype(empty.dtype)


def _all_neighbours(
    grid: _Grid, sampling_ratio: int, crop_size: int
) -> tuple[Int[Array, "r s s n"], Float[Array, "r s s n"]]:
    """Table rows and weights of the neighbours of all points of every cell, those of one cell side by side."""
    points = [_neighbours(grid, point, crop_size) for point in range(sampling_ratio**2)]
    indices, weights = (jnp.moveaxis(jnp.concatenate(parts), 0, -1) for parts in zip(*points, strict=True))
    # Without the barrier a GPU computes them again for every channel.
    return jax.lax.optimization_barrier((indices, weights))


_crop.defvjp(_crop_forward, _crop_backward)


def _num_points(grid: _Grid, sampling_ratio: int) -> int | Int[Array, ""]:
    """The largest number of sample points per cell of any RoI."""
    return sampling_ratio**2 if sampling_ratio else _most(grid.y.points * grid.x.points)


@jax.custom_batching.custom_vmap
def _most(points: Int[Array, "r"]) -> Int[Array, ""]:
    return jnp.max(points)


@_most.def_vmap
def _most_of_all_images(axis_size: int, in_batched: list[bool], points: Array) -> tuple[Array, bool]:
    # One bound for all images: under vmap, loops of different lengths copy their whole state in every iteration.
    return _most(points.reshape(-1)), False


def _neighbours(
    grid: _Grid, point: int | Array, crop_size: int
) -> tuple[Int[Array, "4 r s s"], Float[Array, "4 r s s"]]:
    """Table rows and weights of the four neighbours of sample point number `point` of every cell.

    The weights of a cell's points add up to one. If a RoI has fewer points, the weights of the others are zero.
    """
    across = jnp.maximum(grid.x.points, 1)
    ys, y_weights = _axis_neighbours(grid.y, point // across, crop_size)
    xs, x_weights = _axis_neighbours(grid.x, point % across, crop_size)
    rows = grid.first[:, None] + ys * grid.x.limit[:, None]
    index = rows[:, None, :, :, None] + xs[None, :, :, None, :]
    weight = y_weights[:, None, :, :, None] * x_weights[None, :, :, None, :]
    shape = (4, *index.shape[2:])
    return index.reshape(shape), weight.reshape(shape)


def _axis_neighbours(
    axis: _Axis, point: Int[Array, "r"], crop_size: int
) -> tuple[Int[Array, "2 r s"], Float[Array, "2 r s"]]:
    """Along one axis: the two feature cells next to sample point `point` of every crop cell, and their weights."""
    start, cell, points, limit = (leaf[:, None] for leaf in axis)
    count = jnp.maximum(points, 1).astype(jnp.float32)
    place = start + cell * (jnp.arange(crop_size) + (point[:, None] + 0.5) / count)
    inside = (place >= -1.0) & (place <= limit) & (point[:, None] < points)
    place = jnp.clip(place, 0.0, (limit - 1).astype(jnp.float32))
    low = jnp.floor(place).astype(jnp.int32)
    high = jnp.minimum(low + 1, limit - 1)
    fraction = place - low
    return jnp.stack([low, high]), jnp.stack([1.0 - fraction, fraction]) * inside / count


def _no_gradient(leaf: Array) -> Array | np.ndarray:
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)
