"""Convolutions, norms and dense layers as ONNX operators. Features are [n c h w]."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from lga_jax.exporting.onnx_writer.graph import Tensor

Padding = tuple[tuple[int, int], tuple[int, int]]  # cells before and after, by axis


class Weights:
    """The parameters and statistics of a module; `weights / name` are those of a submodule."""

    def __init__(self, params: Mapping[str, Any], stats: Mapping[str, Any]) -> None:
        self._params, self._stats = params, stats

    def __truediv__(self, name: str) -> "Weights":
        return Weights(self._params.get(name, {}), self._stats.get(name, {}))

    def __contains__(self, name: str) -> bool:
        return name in self._params

    def param(self, name: str) -> Float[np.ndarray, "..."]:
        """A parameter, float32."""
        return np.asarray(self._params[name], np.float32)

    def stat(self, name: str) -> Float[np.ndarray, "..."]:
        """A statistic of a norm, float32."""
        return np.asarray(self._stats[name], np.float32)


def conv(
    x: Tensor,
    kernel: Float[np.ndarray, "kh kw c o"],
    bias: Float[np.ndarray, "o"] | None = None,
    *,
    stride: int = 1,
    padding: Padding | None = None,
    groups: int = 1,
) -> Tensor:
    """Convolution, depthwise with a kernel [kh kw 1 c] and c groups. `padding`: None: half of the kernel."""
    height, width, _, features = kernel.shape
    (top, bottom), (left, right) = padding or ((height // 2,) * 2, (width // 2,) * 2)
    sides = [
        (side + before + after - size) // stride + 1
        for side, size, before, after in zip(x.shape[2:], (height, width), (top, left), (bottom, right), strict=True)
    ]
    inputs = [x.constant(kernel.transpose(3, 2, 0, 1))]
    if bias is not None:
        inputs.append(x.constant(bias))
    return x.apply(
        "Conv",
        *inputs,
        shape=(x.shape[0], features, *sides),
        kernel_shape=[height, width],
        strides=[stride, stride],
        pads=[top, left, bottom, right],
        group=groups,
    )


def conv_norm(
    x: Tensor, weights: Weights, conv_name: str, norm_name: str, kind: str, eps: float, **rule: Any
) -> Tensor:
    """A convolution and its norm. Batch norms become part of the convolution. `rule`: more arguments of `conv`.

    `kind`: "none" or one of lga_jax.models.layers.NORMS.
    """
    own = weights / conv_name
    kernel, bias = own.param("kernel"), own.param("bias") if "bias" in own else None
    norm = weights / norm_name
    if kind in ("frozen_bn", "bn"):
        scale, shift = _affine(norm / "bn", kind, eps)
        shift = shift if bias is None else shift + bias * scale
        return conv(x, kernel * scale, shift, **rule)
    x = conv(x, kernel, bias, **rule)
    return group_norm(x, norm / "gn", eps) if kind == "gn" else x


def group_norm(x: Tensor, weights: Weights, eps: float) -> Tensor:
    """Group norm with the groups of lga_jax.models.layers.Norm."""
    count, channels, height, width = x.shape
    groups = channels // math.gcd(16, channels)
    ones, zeros = x.constant(np.ones(groups)), x.constant(np.zeros(groups))
    grouped = x.reshape(count, groups, -1).apply("InstanceNormalization", ones, zeros, epsilon=eps)
    scale, bias = (weights.param(name)[:, None, None] for name in ("scale", "bias"))
    return grouped.reshape(count, channels, height, width) * scale + bias


def dense(x: Tensor, weights: Weights, *, from_crop: tuple[int, int, int] | None = None) -> Tensor:
    """A dense layer on the last axis of [n c].

    `from_crop`: (side, side, channels) of a crop, if x is a flattened crop [channels side side]. The kernel counts its
    inputs with the channels last.
    """
    kernel = weights.param("kernel")
    if from_crop:
        kernel = kernel.reshape(*from_crop, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
    product = x @ x.constant(kernel)
    return product + weights.param("bias") if "bias" in weights else product


def pointwise(x: Tensor, weights: Weights) -> Tensor:
    """A dense layer on the channels of [n c h w], as a 1x1 convolution."""
    return conv(x, weights.param("kernel")[None, None], weights.param("bias") if "bias" in weights else None)


def deconv(x: Tensor, weights: Weights) -> Tensor:
    """The transposed 2x2 convolution with stride 2 of [n c h w]."""
    kernel = weights.param("kernel").transpose(2, 3, 0, 1)
    count, _, height, width = x.shape
    return x.apply(
        "ConvTranspose",
        x.constant(kernel),
        x.constant(weights.param("bias")),
        shape=(count, kernel.shape[1], 2 * height, 2 * width),
        kernel_shape=[2, 2],
        strides=[2, 2],
    )


def layer_norm(x: Tensor, weights: Weights, eps: float) -> Tensor:
    """Layer norm over the channels of [n c h w]."""
    count, channels, height, width = x.shape
    scale, bias = (x.constant(weights.param(name)) for name in ("scale", "bias"))
    last = x.apply("Transpose", shape=(count, height, width, channels), perm=[0, 2, 3, 1])
    normal = last.apply("LayerNormalization", scale, bias, axis=-1, epsilon=eps)
    return normal.apply("Transpose", shape=x.shape, perm=[0, 3, 1, 2])


def gelu(x: Tensor) -> Tensor:
    """x times the normal distribution function of x, exact."""
    return x * 0.5 * ((x * np.float32(math.sqrt(0.5))).apply("Erf") + 1.0)


def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return x.apply("Relu")


def relu6(x: Tensor) -> Tensor:
    """x clipped to 0..6."""
    return x.apply("Clip", x.constant(0.0), x.constant(6.0))


def _affine(weights: Weights, kind: str, eps: float) -> tuple[Float[np.ndarray, "c"], Float[np.ndarray, "c"]]:
    """Factor and summand of a batch norm with constant statistics."""
    own = weights.stat if kind == "frozen_bn" else weights.param
    scale = own("scale") / np.sqrt(weights.stat("var") + np.float32(eps))
    return scale, own("bias") - weights.stat("mean") * scale
