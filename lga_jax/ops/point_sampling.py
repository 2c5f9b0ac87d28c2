"""Bilinear sampling of a feature pyramid at points, differentiable in the features and in the points.

RoIAlign is faster for regular grids, but its boxes get no gradient. Modules that move their sample points (deformable
RoI pooling, close-ups of a Gaussian mask) need this one.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@partial(jax.jit, static_argnames=("strides",))
def sample_points(
    features: Sequence[Float[Array, "_ _ c"]],
    points: Float[Array, "r n 2"],
    level: Int[Array, "r"],
    *,
    strides: tuple[int, ...],
) -> Float[Array, "r n c"]:
    """The features at `points` (x, y), in pixels of the padded input; the n points of a RoI lie on the same level.

    Feature (0, 0) lies at the centre of its cell, as with aligned RoIAlign. A point outside the map gets the value of
    the nearest place on it, and no gradient along that axis. Sums are float32; the result has the type of the features.
    """
    widths, heights = (jnp.asarray([f.shape[axis] for f in features], jnp.int32)[level] for axis in (1, 0))
    limits = jnp.stack([widths, heights], axis=-1)[:, None]
    cells = points / jnp.asarray(strides, jnp.float32)[level][:, None, None] - 0.5
    cells = jnp.clip(cells, 0.0, limits - 1.0)
    low = jax.lax.stop_gradient(jnp.clip(jnp.floor(cells).astype(jnp.int32), 0, jnp.maximum(limits - 2, 0)))
    high = jnp.minimum(low + 1, limits - 1)

    sizes = [f.shape[0] * f.shape[1] for f in features]
    first = jnp.asarray(np.cumsum([0, *sizes[:-1]]), jnp.int32)[level][:, None]
    index = [first + y * widths[:, None] + x for y in (low[..., 1], high[..., 1]) for x in (low[..., 0], high[..., 0])]
    table = jnp.concatenate([f.reshape(-1, f.shape[-1]) for f in features])
    return _interpolate(table, jnp.stack(index), cells - low)


@jax.custom_vjp
def _interpolate(
    table: Float[Array, "t c"], index: Int[Array, "4 r n"], fraction: Float[Array, "r n 2"]
) -> Float[Array, "r n c"]:
    return _interpolate_forward(table, index, fraction)[0]


def _interpolate_forward(table: Array, index: Array, fraction: Array) -> tuple[Array, tuple]:
    # Without the barrier XLA's CPU backend computes the places again for every channel.
    rows_of, places = jax.lax.optimization_barrier((index, fraction))
    total = sum(
        table[rows].astype(jnp.float32) * weight[..., None]
        for rows, weight in zip(rows_of, _weights(places), strict=True)
    )
    return total.astype(table.dtype), (table, index, fraction)


def _interpolate_backward(saved: tuple, cotangent: Array) -> tuple[Array, np.ndarray, Array]:
    """Scatters in float32, one sum for all four neighbours; the points get the slope of the interpolation."""
    table, index, fraction = saved
    cotangent = cotangent.astype(jnp.float32)
    scattered = cotangent * jnp.stack(_weights(fraction))[..., None]
    gradient = jnp.zeros(table.shape, jnp.float32).at[index].add(scattered)
    # A product of matrices: on CPUs a step with close-ups takes 1.07 of the time without attention, with a sum 1.10.
    along = jnp.einsum("frnc,rnc->frn", table[index].astype(jnp.float32), cotangent)
    x, y = fraction[..., 0], fraction[..., 1]
    slope_x = (1.0 - y) * (along[1] - along[0]) + y * (along[3] - along[2])
    slope_y = (1.0 - x) * (along[2] - along[0]) + x * (along[3] - along[1])
    no_gradient = np.zeros(index.shape, jax.dtypes.float0)
    return gradient.astype(table.dtype), no_gradient, jnp.stack([slope_x, slope_y], axis=-1)


_interpolate.defvjp(_interpolate_forward, _interpolate_backward)


def _weights(fraction: Float[Array, "r n 2"]) -> list[Float[Array, "r n"]]:
    """The weights of the neighbours: top left, top right, bottom left, bottom right."""
    x, y = fraction[..., 0], fraction[..., 1]
    return [(1.0 - x) * (1.0 - y), x * (1.0 - y), (1.0 - x) * y, x * y]
