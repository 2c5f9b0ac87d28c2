"""Matrix products of features and kernels, and 3x3 convolutions built from them, in forms that are fast on CPUs.

XLA's CPU backend multiplies bfloat16 matrices at least twice as fast as float32 ones (AVX512-BF16, AMX), but only if
the result is float32 and no operand needs a transposition; otherwise it converts the operands. Here sums are float32,
and the narrower operand is transposed in memory first. Kernel gradients in float32 use the same form: it is at least as
fast as XLA's form, also in the body of a loop.
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
    """Gradient of matmul with respect to the kernel, in float32."""
    # Without the barrier XLA repeats the computation of an operand for every column while it transposes the operand.
    x, cotangent = jax.lax.optimization_barrier((x, cotangent))
    if x.shape[1] <= cotangent.shape[1]:
        return _product(_transposed(x), cotangent)
    # This barrier keeps XLA from merging product and transposition: it has no such kernel for mixed dtypes.
    return jax.lax.optimization_barrier(_product(_transposed(cotangent), x)).T


def conv3x3(x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"]) -> Float[Array, "b h w o"]:
    """Convolution with stride 1 and one cell of zero padding: nine products over strips that fit the cache."""
    (batch, height, width, _), features = x.shape, kernel.shape[-1]
    rows, strips = _strips(height, width)
    padded = _pad(x, rows * strips, width, 1)

    def convolve_strip(number: Array) -> Array:
        shifted = _shifted(padded, number // strips, number % strips * rows, rows, width, 1)
        total = sum(_product(cells, kernel[i, j]) for (i, j), cells in shifted.items())
        return total.astype(x.dtype).reshape(rows, width, features)

    result = jax.lax.map(convolve_strip, jnp.arange(batch * strips))
    return result.reshape(batch, rows * strips, width, features)[:, :height]


def conv3x3_kernel_gradient(
    x: Float[Array, "b h w c"], cotangent: Float[Array, "b _ _ o"], stride: int
) -> Float[Array, "3 3 c o"]:
    """Gradient of a convolution with one cell of zero padding with respect to the kernel, in float32.

    In the body of a loop, XLA's form runs on one core and is tens of times slower.
    """
    (batch, height, width, features), channels = cotangent.shape, x.shape[-1]
    rows, strips = _strips(height, width)
    padded = _pad(x, rows * strips, width, stride)
    cotangent = jnp.pad(cotangent, ((0, 0), (0, rows * strips - height), (0, 0), (0, 0)))

    def add_strip(number: Array, sums: list[Array]) -> list[Array]:
        image, row = number // strips, number % strips * rows
        strip = jax.lax.dynamic_slice(cotangent, (image, row, 0, 0), (1, rows, width, features))
        strip = _transposed(strip.reshape(-1, features))
        shifted = _shifted(padded, image, row, rows, width, stride)
        return [total + _product(strip, cells) for total, cells in zip(sums, shifted.values(), strict=True)]

    sums = jax.lax.fori_loop(0, batch * strips, add_strip, [jnp.zeros((features, channels), jnp.float32)] * 9)
    return jax.lax.optimization_barrier(jnp.stack(sums)).swapaxes(1, 2).reshape(3, 3, channels, features)


def strided_input_gradient(
    cotangent: Float[Array, "b _ _ o"], kernel: Float[Array, "3 3 c o"], height: int, width: int
) -> Float[Array, "b {height} {width} c"]:
    """Gradient of a convolution with stride 2 and one cell of zero padding with respect to an input of height x width.

    Output row y multiplies input row 2y by kernel row 1 and input row 2y + 1 by kernel row 2; output row y + 1
    multiplies input row 2y + 1 by kernel row 0. Columns follow the same rule. The gradient of each of the four phases
    of the input is thus a sum of products with output cells or their neighbours.
    """
    batch, rows, columns, features = cotangent.shape
    padded = jnp.pad(cotangent, ((0, 0), (0, 1), (0, 1), (0, 0)))
    terms = [[(1, 0)], [(2, 0), (0, 1)]]  # by the parity of the input row: (kernel row, offset of the output row)

    def phase(row_parity: int, column_parity: int) -> Array:
        return sum(
            _product(padded[:, a : a + rows, b : b + columns].reshape(-1, features), kernel[i, j].T)
            for i, a in terms[row_parity]
            for j, b in terms[column_parity]
        ).reshape(batch, rows, columns, -1)

    phases = jnp.stack([jnp.stack([phase(p, q) for q in range(2)], axis=3) for p in range(2)], axis=2)
    return phases.reshape(batch, 2 * rows, 2 * columns, -1)[:, :height, :width].astype(cotangent.dtype)


def _product(a: Float[Array, "m k"], b: Float[Array, "k n"]) -> Float[Array, "m n"]:
    return jax.lax.dot(a, b, preferred_element_type=jnp.float32)


def _transposed(x: Float[Array, "n c"]) -> Float[Array, "c n"]:
    """Transposes in memory, instead of only in the operand's layout of a product."""
    return with_layout_constraint(x.T, Layout((0, 1)))


def _strips(height: int, width: int) -> tuple[int, int]:
    """(rows per strip, strips per image)."""
    rows = min(height, max(1, _CELLS_PER_STRIP // width))
    return rows, -(-height // rows)


def _pad(x: Float[Array, "b h w c"], rows: int, columns: int, stride: int) -> Float[Array, "b _ _ c"]:
    """Zero padding, so that each of rows x columns outputs covers the whole kernel."""
    _, height, width, _ = x.shape
    below, right = (stride * (outputs - 1) + 2 - inputs for outputs, inputs in ((rows, height), (columns, width)))
    return jnp.pad(x, ((0, 0), (1, max(below, 0)), (1, max(right, 0)), (0, 0)))


def _shifted(
    padded: Float[Array, "b _ _ c"], image: Array, row: Array, rows: int, columns: int, stride: int
) -> dict[tuple[int, int], Float[Array, "n c"]]:
    """For each of the nine kernel entries (i, j): the input cells that it multiplies in the output strip at `row`."""
    high, wide = stride * (rows - 1) + 1, stride * (columns - 1) + 1
    channels = padded.shape[-1]
    strip = jax.lax.dynamic_slice(padded, (image, stride * row, 0, 0), (1, high + 2, wide + 2, channels))[0]
    return {
        (i, j): strip[i : i + high : stride, j : j + wide : stride].reshape(-1, channels)
        for i in range(3)
        for j in range(3)
    }
