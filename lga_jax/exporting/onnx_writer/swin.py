"""Swin Transformers as ONNX operators. Inside, features are [1 h w c]."""

import numpy as np
from jaxtyping import Float

from lga_jax.exporting.onnx_writer.graph import Tensor, concat
from lga_jax.exporting.onnx_writer.layers import Weights, conv, dense, gelu
from lga_jax.models.backbones.swin import (
    ARCHITECTURES,
    EPSILON,
    OTHER_REGION,
    WINDOWS,
    Swin,
    distance_index,
    log_distances,
    same_region,
)
from lga_jax.ops.cpu.depthwise import same_padding


def swin(x: Tensor, module: Swin, weights: Weights) -> list[Tensor]:
    """C2..C5 of a Swin Transformer."""
    blocks, _, heads = ARCHITECTURES[module.variant]
    stem = weights / "stem"
    padding = tuple(same_padding(side, 4, 4) for side in x.shape[2:])
    x = conv(x, stem.param("kernel"), stem.param("bias"), stride=4, padding=padding).transpose(0, 2, 3, 1)
    x = _norm(x, weights / "stem_norm")
    features = []
    for part, count in enumerate(blocks, start=1):
        x = x if part == 1 else _merge(x, module, weights / f"merge{part}", weights / f"merge{part}_norm")
        for number in range(count):
            shift = WINDOWS[module.version] // 2 if number % 2 else 0
            x = _block(x, module.version, heads[part - 1], shift, weights / f"layer{part}_{number}")
        features.append(_norm(x, weights / f"output{part + 1}_norm").transpose(0, 3, 1, 2))
    return features


def _block(x: Tensor, version: int, heads: int, shift: int, weights: Weights) -> Tensor:
    def attention(y: Tensor) -> Tensor:
        return _attention(y, version, heads, shift, weights / "attention")

    def perceptron(y: Tensor) -> Tensor:
        return dense(gelu(dense(y, weights / "expand")), weights / "shrink")

    for layer, name in ((attention, "norm1"), (perceptron, "norm2")):
        norm = weights / name
        x = x + (layer(_norm(x, norm)) if version == 1 else _norm(layer(x), norm))
    return x


def _attention(x: Tensor, version: int, heads: int, shift: int, weights: Weights) -> Tensor:
    side = WINDOWS[version]
    _, height, width, channels = x.shape
    padded = tuple(-(-length // side) * side for length in (height, width))
    moved = tuple(shift if length > side else 0 for length in padded)
    x = _roll(_pad(x, padded), moved)
    windows = x.reshape(padded[0] // side, side, padded[1] // side, side, channels).transpose(0, 2, 1, 3, 4)
    windows = windows.reshape(-1, side * side, channels)
    qkv = dense(windows, weights / "qkv") if version == 1 else _without_key_bias(windows, weights / "qkv")
    qkv = qkv.reshape(-1, side * side, 3, heads, channels // heads).transpose(2, 0, 3, 1, 4)
    q, k, v = (qkv.slice(0, i, i + 1).reshape(-1, heads, side * side, channels // heads) for i in range(3))
    if version == 1:
        scores = (q * np.float32((channels // heads) ** -0.5)) @ k.transpose(0, 1, 3, 2)
    else:
        scale = np.exp(np.minimum(weights.param("logit_scale"), np.float32(np.log(100.0))))
        scores = (_unit(q) @ _unit(k).transpose(0, 1, 3, 2)) * scale
    scores = scores + _position_bias(version, side, weights)
    if any(moved):
        same = np.asarray(same_region(padded, moved, side))
        scores = scores + np.where(same, 0.0, OTHER_REGION).astype(np.float32)[:, None]
    y = (scores.apply("Softmax", axis=-1) @ v).transpose(0, 2, 1, 3).reshape(-1, side * side, channels)
    y = dense(y, weights / "project")
    y = y.reshape(padded[0] // side, padded[1] // side, side, side, channels).transpose(0, 2, 1, 3, 4)
    y = _roll(y.reshape(1, *padded, channels), tuple(-cells for cells in moved))
    return y.slice(1, 0, height).slice(2, 0, width)


def _position_bias(version: int, side: int, weights: Weights) -> Float[np.ndarray, "e t t"]:
    if version == 1:
        table = weights.param("bias_table")
    else:
        first, last = weights / "bias_expand", weights / "bias_project"
        hidden = np.maximum(log_distances(side) @ first.param("kernel") + first.param("bias"), 0.0)
        table = 16.0 / (1.0 + np.exp(-(hidden @ last.param("kernel"))))
    return np.moveaxis(table[distance_index(side)], -1, 0)


def _without_key_bias(x: Tensor, weights: Weights) -> Tensor:
    bias = weights.param("bias").copy()
    bias[bias.size // 3 : 2 * bias.size // 3] = 0.0
    return x @ x.graph.constant(weights.param("kernel")) + bias


def _unit(x: Tensor) -> Tensor:
    """`x` over its length."""
    squares = (x * x).reduce("Mean", -1, keepdims=True) * np.float32(x.shape[-1])
    return x / squares.apply("Sqrt").maximum(1e-12)


def _merge(x: Tensor, module: Swin, weights: Weights, norm: Weights) -> Tensor:
    height, width, channels = (side + side % 2 if axis < 2 else side for axis, side in enumerate(x.shape[1:]))
    x = _pad(x, (height, width)).reshape(height // 2, 2, width // 2, 2, channels).transpose(0, 2, 3, 1, 4)
    x = x.reshape(1, height // 2, width // 2, 4 * channels)  # the order of the four cells: column, then row
    return dense(_norm(x, norm), weights) if module.version == 1 else _norm(dense(x, weights), norm)


def _norm(x: Tensor, weights: Weights) -> Tensor:
    scale, bias = (x.graph.constant(weights.param(name)) for name in ("scale", "bias"))
    return x.apply("LayerNormalization", scale, bias, axis=-1, epsilon=EPSILON)


def _pad(x: Tensor, hw: tuple[int, int]) -> Tensor:
    """Zeros at the lower and right edge."""
    missing = [0, hw[0] - x.shape[1], hw[1] - x.shape[2], 0]
    if not any(missing):
        return x
    return x.apply("Pad", x.graph.constant([0, 0, 0, 0, *missing], np.int64), shape=(1, *hw, x.shape[3]))


def _roll(x: Tensor, cells: tuple[int, int]) -> Tensor:
    """Moves the content up and left; what leaves comes back at the other side."""
    for axis, count in enumerate(cells, start=1):
        if count := count % x.shape[axis]:
            x = concat([x.slice(axis, count, x.shape[axis]), x.slice(axis, 0, count)], axis)
    return x
