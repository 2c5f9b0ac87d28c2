"""Convolution and normalisation layers shared by the networks."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lga_jax.ops.cpu import conv2d, matmul
from lga_jax.structs import DEVICE_AXIS

# Caffe2's "Xavier" of FPN and the box head: uniform with variance 1 / fan_in.
xavier_caffe2 = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
kaiming_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# Initial weights of torch.nn.Linear: uniform within 1 / sqrt(fan_in).
uniform_fan_in = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")
NORMS = ("frozen_bn", "bn", "gn")


def _dense_product(x: Float[Array, "*n c"], kernel: Float[Array, "c o"], *_: Any, **__: Any) -> Float[Array, "*n o"]:
    """A dot_general for nn.Dense, which always multiplies the last axis of x by the first axis of the kernel."""
    return matmul(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], -1)


Dense = functools.partial(nn.Dense, dot_general=_dense_product)


class Conv(nn.Module):
    """Convolution with padding kernel_size // 2 on every side."""

    features: int
    kernel_size: int = 1
    stride: int = 1
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = xavier_caffe2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], scale: Float[Array, "o"] | None = None) -> Float[Array, "b _ _ o"]:
        """`scale`: a factor for each channel of the result, before the bias."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        if scale is not None:
            kernel *= scale
        y = conv2d(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return y


class ConvWeights(nn.Module):
    """The parameters of a 1x1 `Conv` in `dtype`, for a product that several such layers share."""

    features: int
    kernel_init: nn.initializers.Initializer
    dtype: Any

    @nn.compact
    def __call__(self, channels: int) -> tuple[Float[Array, "1 1 c o"], Float[Array, "o"]]:
        kernel = self.param("kernel", self.kernel_init, (1, 1, channels, self.features))
        return kernel.astype(self.dtype), self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)


class Deconv(nn.Module):
    """A transposed 2x2 convolution with stride 2. Cell (y, x) of the input becomes the 2 x 2 cells [y x i j]."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w 2 2 o"]:
        kernel = self.param("kernel", kaiming_fan_out, (2, 2, x.shape[-1], self.features)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        flat = matmul(x.reshape(-1, x.shape[-1]), jnp.moveaxis(kernel, 2, 0).reshape(x.shape[-1], -1))
        return flat.reshape(*x.shape[:3], 2, 2, self.features) + bias


class FrozenBatchNorm(nn.Module):
    """Batch norm with constant statistics, scale and bias; all four are stored in `batch_stats`.

    With `conv`, it normalises the result of this convolution: the kernel takes the factors, so that activations are
    only shifted.
    """

    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], conv: Conv | None = None) -> Float[Array, "b _ _ o"]:
        channels = x.shape[-1] if conv is None else conv.features

        def constant(name: str, value: float) -> Array:
            return self.variable("batch_stats", name, jnp.full, (channels,), value, jnp.float32).value

        scale = constant("scale", 1.0) * jax.lax.rsqrt(constant("var", 1.0) + self.epsilon)
        shift = constant("bias", 0.0) - constant("mean", 0.0) * scale
        scaled = x * scale.astype(self.dtype) if conv is None else conv(x, scale)
        return scaled + shift.astype(self.dtype)


def frozen_constants(batch_stats: Mapping[str, Any]) -> dict[str, Any]:
    """In the structure of batch_stats: True for constants of a FrozenBatchNorm, False for running statistics."""

    def mark(node: Any, constant: bool) -> Any:
        if not isinstance(node, Mapping):
            return constant
        # Other norms have their scale among the parameters.
        return {name: mark(child, "scale" in node) for name, child in node.items()}

    return mark(batch_stats, False)


class Norm(nn.Module):
    """Normalisation by name: "frozen_bn", "bn" (statistics over all devices), "gn" (16 channels per group).

    A number of channels that is no multiple of 16 has smaller groups: 8 channels for 24, 40 or 120. With `conv`, the
    result of this convolution of x is normalised. `counted`: the rows of x in the statistics of "bn"; None: all.
    """

    kind: str  # one of NORMS
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        train: bool,
        conv: Conv | None = None,
        counted: Bool[Array, "b 1 1 1"] | None = None,
    ) -> Float[Array, "b _ _ o"]:
        if self.kind == "frozen_bn":
            return FrozenBatchNorm(self.epsilon, self.dtype, name="bn")(x, conv)
        x = x if conv is None else conv(x)
        match self.kind:
            case "bn":
                norm = nn.BatchNorm(
                    use_running_average=not train,
                    momentum=0.9,
                    epsilon=self.epsilon,
                    axis_name=DEVICE_AXIS,
                    dtype=self.dtype,
                    name="bn",
                )
                # A mean over nothing is nan: without a counted row, all rows count.
                return norm(x, mask=None if counted is None else counted | ~jnp.any(counted))
            case "gn":
                norm = nn.GroupNorm(
                    num_groups=None,
                    group_size=math.gcd(16, x.shape[-1]),
                    epsilon=self.epsilon,
                    dtype=self.dtype,
                    name="gn",
                )
                return norm(x)
        raise ValueError(f"norm: expected one of {NORMS}, found {self.kind!r}")


def conv_norm(
    x: Float[Array, "b h w c"],
    train: bool,
    *,
    features: int,
    kernel_size: int,
    norm: str,
    kernel_init: nn.initializers.Initializer = xavier_caffe2,
    dtype: Any,
    counted: Bool[Array, "b 1 1 1"] | None = None,
    name: str,
) -> Float[Array, "b h w {features}"]:
    """Convolution `name`, with a bias if `norm` is "none", otherwise followed by the norm layer `{name}_norm`.

    Call it inside a compact method; both layers become submodules of the module.
    """
    conv = Conv(features, kernel_size, use_bias=norm == "none", kernel_init=kernel_init, dtype=dtype, name=name)
    return conv(x) if norm == "none" else Norm(norm, dtype=dtype, name=f"{name}_norm")(x, train, conv, counted)
