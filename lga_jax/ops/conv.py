"""2-D convolution, channels last, in the form that the platform runs fast."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lga_jax.ops import products, winograd
from lga_jax.ops.matmul import matmul

# By trials on one x86 machine with AVX-512. Where the saved products outweigh Winograd's transformations in float32:
_WINOGRAD_CHANNELS, _WINOGRAD_CELLS = 128, 6000
# and from where on nine products are faster than XLA's convolution in bfloat16.
_PRODUCT_CHANNELS = 64


def conv2d(x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c o"], stride: int = 1) -> Float[Array, "b _ _ o"]:
    """Convolution padded by kernel // 2 on every side, as torchvision's ResNet pads.

    A 1x1 kernel is one matrix product: XLA's CPU backend runs it and its gradient several times faster in that form,
    and the other backends lower both forms alike. On CPUs, products have float32 sums and large 3x3 convolutions run
    in Winograd's form (float32) or as products (bfloat16).
    """
    if kernel.shape[:2] == (1, 1):
        x = x[:, ::stride, ::stride]
        return matmul(x.reshape(-1, x.shape[-1]), kernel[0, 0]).reshape(*x.shape[:3], -1)
    if kernel.shape[:2] == (3, 3) and stride == 1 and _cpu_form(x, kernel):
        return _conv3x3(x, kernel)
    return _plain(x, kernel, stride)


def _cpu_form(x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"]) -> object:
    """The module with the 3x3 convolution that is fast on CPUs; None where that is XLA's."""
    cells, channels = x.shape[0] * x.shape[1] * x.shape[2], min(kernel.shape[2:])
    if x.dtype == jnp.bfloat16:
        return products if channels >= _PRODUCT_CHANNELS else None
    return winograd if channels >= _WINOGRAD_CHANNELS and cells >= _WINOGRAD_CELLS else None


def _plain(x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c o"], stride: int = 1) -> Float[Array, "b _ _ o"]:
    padding = [(side // 2, side // 2) for side in kernel.shape[:2]]
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@jax.custom_vjp
def _conv3x3(x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"]) -> Float[Array, "b h w o"]:
    return jax.lax.platform_dependent(x, kernel, cpu=_cpu_form(x, kernel).conv3x3, default=_plain)


def _conv3x3_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _conv3x3(x, kernel), (x, kernel)


def _conv3x3_backward(inputs: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, kernel = inputs
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    kernel_gradient = jax.lax.platform_dependent(
        x, cotangent, cpu=_cpu_form(x, kernel).conv3x3_kernel_gradient, default=_plain_kernel_gradient
    )
    return _conv3x3(cotangent, flipped), kernel_gradient.astype(kernel.dtype)


def _plain_kernel_gradient(x: Float[Array, "b h w c"], cotangent: Float[Array, "b h w o"]) -> Float[Array, "3 3 c o"]:
    kernel = jnp.zeros((3, 3, x.shape[-1], cotangent.shape[-1]), x.dtype)
    (gradient,) = jax.linear_transpose(lambda kernel: _plain(x, kernel), kernel)(cotangent)
    return gradient.astype(jnp.float32)


_conv3x3.defvjp(_conv3x3_forward, _conv3x3_backward)
