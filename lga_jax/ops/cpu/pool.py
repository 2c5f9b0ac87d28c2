"""3x3 maximum pooling with stride 2, in a form that is fast on the current platform."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ c"]:
    """Maximum of every 3x3 window with stride 2, padded by one cell of -inf, as after the stem of a ResNet.

    If several cells of a window are equal, the first one, row by row, gets the gradient. On CPUs the maximum is taken
    along rows and then along columns, because XLA's backward pass builds arrays of indices to find each maximum.
    """
    return jax.lax.platform_dependent(x, cpu=_along_both_axes, default=_plain)


def _plain(x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ c"]:
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)


def _along_both_axes(x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ c"]:
    return _along_axis(_along_axis(x, 2), 1)


def _along_axis(x: Float[Array, "b h w c"], axis: int) -> Float[Array, "b _ _ c"]:
    """Maxima of three neighbours with stride 2: output i covers cells 2 i - 1, 2 i and 2 i + 1."""
    odd_length = x.shape[axis] % 2
    x = jnp.pad(x, [(0, odd_length if i == axis else 0) for i in range(4)], constant_values=-jnp.inf)
    pairs = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
    even, odd = (jax.lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in range(2))
    before = jnp.pad(odd, [(1 if i == axis else 0, 0) for i in range(4)], constant_values=-jnp.inf)
    before = jax.lax.slice_in_dim(before, 0, odd.shape[axis], axis=axis)
    return _larger(_larger(before, even), odd)


@jax.custom_vjp
def _larger(first: Float[Array, "*n"], second: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The maximum. If both values are equal, only `first` gets the gradient."""
    return jnp.maximum(first, second)


def _larger_forward(first: Array, second: Array) -> tuple[Array, Array]:
    return jnp.maximum(first, second), first >= second


def _larger_backward(is_first: Array, cotangent: Array) -> tuple[Array, Array]:
    return jnp.where(is_first, cotangent, 0.0), jnp.where(is_first, 0.0, cotangent)


_larger.defvjp(_larger_forward, _larger_backward)
