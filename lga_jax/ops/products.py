"""Matrix products of features with kernels, and 3x3 convolutions made of them, in the forms that CPUs run fast.

XLA's CPU backend multiplies bfloat16 matrices at twice the rate of float32 ones and more (AVX512-BF16, AMX), but only
where the result is asked for in float32 and no operand has to be transposed on the way; otherwise it converts them.
Here sums are float32 and operands are transposed first, the narrower one.
"""

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

_CELLS_PER_STRIP = 2048


def matmul(x: Float[Array, "n c"], kernel: Float[Array, "c o"]) -> Float[Array, "n o"]:
    """x @ kernel in the dtype of x, with float32 sums."""
    return _product(x, kernel).astype(x.dtype)


def matmul_kernel_gradient(x: Float[Array, "n c"], cotangent: Float[Array, "n o"]) -> Float[Array, "c o"]:
    """Gradient of matmul in its kernel, in float32."""
    # Without the barrier XLA computes whatever leads to an operand again while it transposes it, column by column.
    x, cotangent = jax.lax.optimization_barrier((x, cotangent))
    if x.shape[1] <= cotangent.shape[1]:
        return _product(_transposed(x), cotangent)
    # Nor may the product and the transposition of its result become one: mixed dtypes have no such kernel.
    return jax.lax.optimization_barrier(_product(_transposed(cotangent), x)).T


def conv3x3(x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"]) -> Float[Array, "b h w o"]:
    """Convolution with stride 1 and one cell of zero padding: nine products over strips that fit the cache."""
    (batch, height, width, _), features = x.shape, kernel.shape[-1]
    rows, strips = _strips(height, width)
    padded = jnp.pad(x, ((0, 0), (1, 1 + rows * strips - height), (1, 1), (0, 0)))

    def convolve_strip(number: Array) -> Array:
        shifted = _shifted(padded, number // strips, number % strips * rows, rows)
        total = sum(_product(cells, kernel[i, j]) for (i, j), cells in shifted.items())
        return total.astype(x.dtype).reshape(rows, width, features)

    result = jax.lax.map(convolve_strip, jnp.arange(batch * strips))
    return result.reshape(batch, rows * strips, width, features)[:, :height]


def conv3x3_kernel_gradient(x: Float[Array, "b h w c"], cotangent: Float[Array, "b h w o"]) -> Float[Array, "3 3 c o"]:
    """Gradient of conv3x3 in its kernel, in float32."""
    (batch, height, width, channels), features = x.shape, cotangent.shape[-1]
    rows, strips = _strips(height, width)
    below = rows * strips - height
    padded = jnp.pad(x, ((0, 0), (1, 1 + below), (1, 1), (0, 0)))
    cotangent = jnp.pad(cotangent, ((0, 0), (0, below), (0, 0), (0, 0)))

    def add_strip(number: Array, sums: list[Array]) -> list[Array]:
        image, row = number // strips, number % strips * rows
        strip = jax.lax.dynamic_slice(cotangent, (image, row, 0, 0), (1, rows, width, features))
        strip = _transposed(strip.reshape(-1, features))
        shifted = _shifted(padded, image, row, rows)
        return [total + _product(strip, cells) for total, cells in zip(sums, shifted.values(), strict=True)]

    sums = jax.lax.fori_loop(0, batch * strips, add_strip, [jnp.zeros((features, channels), jnp.float32)] * 9)
    return jax.lax.optimization_barrier(jnp.stack(sums)).swapaxes(1, 2).reshape(3, 3, channels, features)


def _product(a: Float[Array, "m k"], b: Float[Array, "k n"]) -> Float[Array, "m n"]:
    return jax.lax.dot(a, b, preferred_element_type=jnp.float32)


def _transposed(x: Float[Array, "n c"]) -> Float[Array, "c n"]:
    """In memory, not only in the product's description of its operand."""
    return with_layout_constraint(x.T, Layout((0, 1)))


def _strips(height: int, width: int) -> tuple[int, int]:
    """Rows of a strip, and strips of an image."""
    rows = min(height, max(1, _CELLS_PER_STRIP // width))
    return rows, -(-height // rows)


def _shifted(
    padded: Float[Array, "b _ _ c"], image: Array, row: Array, rows: int
) -> dict[tuple[int, int], Float[Array, "n c"]]:
    """What each of the nine entries (i, j) of a kernel meets in a strip."""
    _, _, width, channels = padded.shape
    strip = jax.lax.dynamic_slice(padded, (image, row, 0, 0), (1, rows + 2, width, channels))[0]
    return {(i, j): strip[i : i + rows, j : j + width - 2].reshape(-1, channels) for i in range(3) for j in range(3)}
