"""2-D convolution, channels last, in a form that is fast on the current platform."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lga_jax.ops.cpu import products, winograd
from lga_jax.ops.cpu.matmul import matmul

# Minimum channels and cells, measured on an x86 machine with AVX-512: from _PRODUCT_CHANNELS on, special forms of 3x3
# convolutions are faster on CPUs; from the other two on, Winograd's form is faster in float32.
_PRODUCT_CHANNELS = 64
_WINOGRAD_CHANNELS, _WINOGRAD_CELLS = 128, 6000
_NARROW_STEM = 32  # up to this number of outputs, a convolution of 3 channels is faster with a fourth of zeros


def conv2d(x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c o"], stride: int = 1) -> Float[Array, "b _ _ o"]:
    """Convolution with padding kernel // 2 on every side, as in torchvision's ResNet.

    A 1x1 kernel is one matrix product: XLA's CPU backend runs this form and its gradient several times faster; other
    backends compile both forms to the same program. On CPUs, 3x3 convolutions with many channels run as matrix products
    (bfloat16) or, if large, in Winograd's form (float32). Their gradients do the same; small ones use products. A
    stem with few outputs reads a fourth channel of zeros.
    """
    if kernel.shape[:2] == (1, 1):
        if stride > 1:
            return _conv1x1(stride, x, kernel)
        return matmul(x.reshape(-1, x.shape[-1]), kernel[0, 0]).reshape(*x.shape[:3], -1)
    if kernel.shape[:2] == (3, 3) and stride in (1, 2) and min(kernel.shape[2:]) >= _PRODUCT_CHANNELS:
        return _conv3x3(stride, x, kernel)
    if x.shape[-1] == 3 and kernel.shape[-1] <= _NARROW_STEM:
        plain = functools.partial(_plain, stride=stride)
        return jax.lax.platform_dependent(x, kernel, cpu=functools.partial(_of_four_channels, stride), default=plain)
    return _plain(x, kernel, stride)


def _of_four_channels(stride: int, x: Float[Array, "b h w 3"], kernel: Float[Array, "kh kw 3 o"]) -> Array:
    """The same sums with a fourth channel of zeros.

    For 3 channels, XLA's CPU backend chooses a form that takes 4 times as long with 32 outputs, 14 times with 24.
    """
    fourth = [(0, 0), (0, 0), (0, 0), (0, 1)]
    return _plain(jnp.pad(x, fourth), jnp.pad(kernel, [(0, 0), (0, 0), (0, 1), (0, 0)]), stride)


def _plain(x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c o"], stride: int = 1) -> Float[Array, "b _ _ o"]:
    padding = [(side // 2, side // 2) for side in kernel.shape[:2]]
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv1x1(stride: int, x: Float[Array, "b h w c"], kernel: Float[Array, "1 1 c o"]) -> Float[Array, "b _ _ o"]:
    """A strided 1x1 convolution: on CPUs a product of the cells that it reads.

    XLA's GPU compiler moves the selection of the cells into the product, and then finds no tiles for it at 800 x 1344.
    """
    plain = functools.partial(_plain, stride=stride)
    return jax.lax.platform_dependent(x, kernel, cpu=functools.partial(_product1x1, stride), default=plain)


def _product1x1(stride: int, x: Float[Array, "b h w c"], kernel: Float[Array, "1 1 c o"]) -> Float[Array, "b _ _ o"]:
    x = x[:, ::stride, ::stride]
    return products.matmul(x.reshape(-1, x.shape[-1]), kernel[0, 0]).reshape(*x.shape[:3], -1)


def _conv1x1_forward(stride: int, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _conv1x1(stride, x, kernel), (x, kernel)


def _conv1x1_backward(stride: int, inputs: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, kernel = inputs
    input_gradient = jax.lax.platform_dependent(
        cotangent,
        kernel,
        cpu=functools.partial(_spread_product, shape=x.shape, stride=stride),
        default=functools.partial(_plain_input_gradient, shape=x.shape, stride=stride),
    )

    def product(x: Array, cotangent: Array) -> Array:
        cells = x[:, ::stride, ::stride].reshape(-1, x.shape[-1])
        return products.matmul_kernel_gradient(cells, cotangent.reshape(-1, cotangent.shape[-1]))[None, None]

    plain = functools.partial(_plain_kernel_gradient, kernel_size=1, stride=stride)
    kernel_gradient = jax.lax.platform_dependent(x, cotangent, cpu=product, default=plain)
    return input_gradient, kernel_gradient.astype(kernel.dtype)


def _spread_product(
    cotangent: Float[Array, "b _ _ o"], kernel: Float[Array, "1 1 c o"], shape: tuple[int, ...], stride: int
) -> Float[Array, "b h w c"]:
    """The input gradient on CPUs: zero in the cells that the convolution does not read."""
    product = _product1x1(1, cotangent, kernel.swapaxes(2, 3))
    return jnp.zeros(shape, product.dtype).at[:, ::stride, ::stride].set(product)


_conv1x1.defvjp(_conv1x1_forward, _conv1x1_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv3x3(stride: int, x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"]) -> Float[Array, "b _ _ o"]:
    plain = functools.partial(_plain, stride=stride)
    on_cpu = plain
    if stride == 1 and x.dtype == jnp.bfloat16:
        on_cpu = products.conv3x3
    if stride == 1 and _suits_winograd(x, kernel):
        on_cpu = winograd.conv3x3
    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=plain)


def _suits_winograd(x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"]) -> bool:
    cells, channels = x.shape[0] * x.shape[1] * x.shape[2], min(kernel.shape[2:])
    return x.dtype != jnp.bfloat16 and channels >= _WINOGRAD_CHANNELS and cells >= _WINOGRAD_CELLS


def _conv3x3_forward(stride: int, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _conv3x3(stride, x, kernel), (x, kernel)


def _conv3x3_backward(stride: int, inputs: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, kernel = inputs
    if stride == 1:
        input_gradient = _conv3x3(1, cotangent, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
    else:
        input_gradient = jax.lax.platform_dependent(
            cotangent,
            kernel,
            cpu=functools.partial(products.strided_input_gradient, height=x.shape[1], width=x.shape[2]),
            default=functools.partial(_plain_input_gradient, shape=x.shape, stride=stride),
        )
    on_cpu = functools.partial(products.conv3x3_kernel_gradient, stride=stride)
    if stride == 1 and _suits_winograd(x, kernel):
        on_cpu = winograd.conv3x3_kernel_gradient
    plain = functools.partial(_plain_kernel_gradient, kernel_size=3, stride=stride)
    kernel_gradient = jax.lax.platform_dependent(x, cotangent, cpu=on_cpu, default=plain)
    return input_gradient, kernel_gradient.astype(kernel.dtype)


def _plain_input_gradient(
    cotangent: Float[Array, "b _ _ o"], kernel: Float[Array, "kh kw c o"], shape: tuple[int, ...], stride: int
) -> Float[Array, "b h w c"]:
    x = jnp.zeros(shape, kernel.dtype)
    (gradient,) = jax.linear_transpose(lambda x: _plain(x, kernel, stride), x)(cotangent)
    return gradient


def _plain_kernel_gradient(
    x: Float[Array, "b h w c"], cotangent: Float[Array, "b _ _ o"], kernel_size: int, stride: int
) -> Float[Array, "{kernel_size} {kernel_size} c o"]:
    kernel = jnp.zeros((kernel_size, kernel_size, x.shape[-1], cotangent.shape[-1]), x.dtype)
    (gradient,) = jax.linear_transpose(lambda kernel: _plain(x, kernel, stride), kernel)(cotangent)
    return gradient.astype(jnp.float32)


_conv3x3.defvjp(_conv3x3_forward, _conv3x3_backward)
