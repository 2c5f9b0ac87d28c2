"""Depthwise convolution, channels last, in a form that is fast on the current platform.

XLA's CPU backend runs a grouped convolution and its gradients without vector instructions. Here, on CPUs, each kernel
entry multiplies the whole shifted input and the products are added: ten to forty times faster.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise_conv2d(
    x: Float[Array, "b h w c"], kernel: Float[Array, "n n c"], stride: int = 1
) -> Float[Array, "b _ _ c"]:
    """Convolves every channel with its own kernel; `stride` is 1 or 2.

    Padding is TensorFlow's "SAME": the output has ceil(side / stride) cells; an odd number of zeros has its larger
    half below and on the right. Sums are float32, the result has the dtype of x.
    """
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_shifted_sum, stride=stride),
        default=functools.partial(xla_depthwise_conv2d, stride=stride),
    )


def same_padding(side: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Number of zeros before and after a side in TensorFlow's padding "SAME"."""
    total = max((-(-side // stride) - 1) * stride + kernel_size - side, 0)
    return total // 2, total - total // 2


def xla_depthwise_conv2d(
    x: Float[Array, "b h w c"], kernel: Float[Array, "n n c"], stride: int
) -> Float[Array, "b _ _ c"]:
    """The same as XLA's grouped convolution, the form of other platforms."""
    return jax.lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _shifted_sum(x: Float[Array, "b h w c"], kernel: Float[Array, "n n c"], stride: int) -> Float[Array, "b _ _ c"]:
    size = len(kernel)
    rows, columns = (-(-side // stride) for side in x.shape[1:3])
    # Without the barrier XLA repeats the computation of x for every kernel entry.
    padded = jax.lax.optimization_barrier(_pad(x, size, stride))
    total = sum(
        _every(padded, i, j, rows, columns, stride).astype(jnp.float32) * kernel[i, j].astype(jnp.float32)
        for i in range(size)
        for j in range(size)
    )
    return total.astype(x.dtype)


def _pad(x: Float[Array, "b h w c"], size: int, stride: int) -> Float[Array, "b _ _ c"]:
    around = [same_padding(side, size, stride) for side in x.shape[1:3]]
    return jnp.pad(x, ((0, 0), *around, (0, 0)))


def _every(x: Float[Array, "b _ _ c"], i: int, j: int, rows: int, columns: int, stride: int) -> Float[Array, "b _ _ c"]:
    """rows x columns cells with distance `stride`, starting at (i, j)."""
    return x[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]


def _forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return depthwise_conv2d(x, kernel, stride), (x, kernel)


def _backward(stride: int, inputs: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, kernel = inputs
    input_gradient = jax.lax.platform_dependent(
        cotangent,
        kernel,
        cpu=functools.partial(_input_gradient, height=x.shape[1], width=x.shape[2], stride=stride),
        default=functools.partial(_plain_input_gradient, shape=x.shape, stride=stride),
    )
    kernel_gradient = jax.lax.platform_dependent(
        x,
        cotangent,
        cpu=functools.partial(_kernel_gradient, size=len(kernel), stride=stride),
        default=functools.partial(_plain_kernel_gradient, size=len(kernel), stride=stride),
    )
    return input_gradient, kernel_gradient.astype(kernel.dtype)


def _plain_input_gradient(
    cotangent: Float[Array, "b _ _ c"], kernel: Float[Array, "n n c"], shape: tuple[int, ...], stride: int
) -> Float[Array, "b h w c"]:
    x = jnp.zeros(shape, kernel.dtype)
    (gradient,) = jax.linear_transpose(lambda x: xla_depthwise_conv2d(x, kernel, stride), x)(cotangent)
    return gradient


def _plain_kernel_gradient(
    x: Float[Array, "b h w c"], cotangent: Float[Array, "b _ _ c"], size: int, stride: int
) -> Float[Array, "n n c"]:
    kernel = jnp.zeros((size, size, x.shape[-1]), x.dtype)
    (gradient,) = jax.linear_transpose(lambda kernel: xla_depthwise_conv2d(x, kernel, stride), kernel)(cotangent)
    return gradient.astype(jnp.float32)


def _input_gradient(
    cotangent: Float[Array, "b _ _ c"], kernel: Float[Array, "n n c"], height: int, width: int, stride: int
) -> Float[Array, "b {height} {width} c"]:
    """Gradient with respect to x, as shifted sums.

    Cell stride * q + p of the padded input is multiplied by kernel entry p for output q, by entry p + stride for output
    q - 1, and so on. The gradient of each phase p is thus a sum of products with shifted output cells.
    """
    size = len(kernel)
    reach = -(-size // stride) - 1
    rows, columns = (outputs + reach for outputs in cotangent.shape[1:3])
    around = (reach, reach)
    padded = jax.lax.optimization_barrier(jnp.pad(cotangent, ((0, 0), around, around, (0, 0))))

    def phase(top: int, left: int) -> Array:
        return sum(
            _every(padded, reach - i // stride, reach - j // stride, rows, columns, 1).astype(jnp.float32)
            * kernel[i, j].astype(jnp.float32)
            for i in range(top, size, stride)
            for j in range(left, size, stride)
        ).astype(cotangent.dtype)

    phases = [jnp.stack([phase(p, q) for q in range(stride)], axis=3) for p in range(stride)]
    whole = jnp.stack(phases, axis=2).reshape(len(cotangent), stride * rows, stride * columns, -1)
    top, left = (same_padding(side, size, stride)[0] for side in (height, width))
    return whole[:, top : top + height, left : left + width]


def _kernel_gradient(
    x: Float[Array, "b h w c"], cotangent: Float[Array, "b _ _ c"], size: int, stride: int
) -> Float[Array, "{size} {size} c"]:
    """Gradient with respect to the kernel, in float32. Adds the rows first, because a sum over columns is slow."""
    batch, rows, columns, channels = cotangent.shape
    padded = _pad(x, size, stride)

    def add_row(number: Array, sums: list[Array]) -> list[Array]:
        image, row = number // rows, number % rows
        seen = jax.lax.dynamic_slice(padded, (image, stride * row, 0, 0), (1, size, padded.shape[2], channels))
        moved = jax.lax.dynamic_slice(cotangent, (image, row, 0, 0), (1, 1, columns, channels)).astype(jnp.float32)
        entries = [_every(seen, i, j, 1, columns, stride) for i in range(size) for j in range(size)]
        return [total + (entry * moved)[0, 0] for total, entry in zip(sums, entries, strict=True)]

    zeros = [jnp.zeros((columns, channels), jnp.float32)] * size**2
    sums = jax.lax.fori_loop(0, batch * rows, add_row, zeros)
    return jnp.stack([total.sum(axis=0) for total in sums]).reshape(size, size, channels)


depthwise_conv2d.defvjp(_forward, _backward)
