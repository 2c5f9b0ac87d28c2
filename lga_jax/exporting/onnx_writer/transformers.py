"""Swin Transformers and plain Vision Transformers as ONNX operators. Inside, features are [1 h w c]."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from lga_jax.exporting.onnx_writer.graph import Tensor, concat
from lga_jax.exporting.onnx_writer.layers import Weights, conv, deconv, dense, gelu, layer_norm
from lga_jax.models.backbones import vit as vits
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
from lga_jax.models.backbones.vit import ViT
from lga_jax.ops.cpu.depthwise import same_padding


def vit(x: Tensor, module: ViT, weights: Weights) -> list[Tensor]:
    """Maps of four scales of a Vision Transformer."""
    _, heads = vits.ARCHITECTURES[module.variant]
    hw, stem = x.shape[2:], weights / "stem"
    padding = tuple(same_padding(side, vits.PATCH, vits.PATCH) for side in hw)
    x = conv(x, stem.param("kernel"), stem.param("bias"), stride=vits.PATCH, padding=padding).transpose(0, 2, 3, 1)
    x = x + np.asarray(vits.positions(jnp.asarray(weights.param("stem_position")[0, 1:]), x.shape[1:3]))
    for part in range(1, vits.NUM_PARTS + 1):
        for number in range(vits.BLOCKS):
            window = vits.WINDOW if number < vits.BLOCKS - 1 else 0
            x = _vit_block(x, heads, window, weights / f"layer{part}_{number}")
    return _simple_pyramid(x.transpose(0, 3, 1, 2), hw, weights)


def _vit_block(x: Tensor, heads: int, window: int, weights: Weights) -> Tensor:
    y = _norm(x, weights / "norm1", vits.EPSILON)
    x = x + _vit_attention(y, heads, window, weights / "attention")
    y = _norm(x, weights / "norm2", vits.EPSILON)
    return x + dense(gelu(dense(y, weights / "expand")), weights / "shrink")


def _vit_attention(x: Tensor, heads: int, window: int, weights: Weights) -> Tensor:
    _, height, width, channels = x.shape
    padded = vits.padded_sides((height, width), window)
    x = _pad(x, padded)
    sides = (window, window) if window else padded
    windows = _to_windows(x, sides)
    q, k, v = _heads(dense(windows, weights / "qkv"), heads)
    scores = (q * np.float32((channels // heads) ** -0.5)) @ k.transpose(0, 1, 3, 2)
    shares = scores.cast(np.float32).apply("Softmax", axis=-1).cast(v.dtype)
    y = (shares @ v).transpose(0, 2, 1, 3).reshape(*windows.shape)
    y = _from_windows(dense(y, weights / "project"), padded, sides)
    return y.slice(1, 0, height).slice(2, 0, width)


def _simple_pyramid(x: Tensor, hw: tuple[int, ...], weights: Weights) -> list[Tensor]:
    """Maps of strides 4, 8, 16 and 32 from a map [1 c h w] of stride 16 (`ViT._pyramid`)."""
    fine = layer_norm(deconv(x, weights / "output2_up1"), weights / "output2_up1_norm", vits.EPSILON)
    maps = [deconv(gelu(fine), weights / "output2_up2"), deconv(x, weights / "output3_up"), x, _halved(x)]
    levels = []
    for number, (level, stride) in enumerate(zip(maps, ViT.strides, strict=True), start=2):
        cut = level.slice(2, 0, -(-hw[0] // stride)).slice(3, 0, -(-hw[1] // stride))
        levels.append(layer_norm(cut, weights / f"output{number}_norm", vits.EPSILON))
    return levels


def _halved(x: Tensor) -> Tensor:
    """The maximum of 2 x 2 cells."""
    height, width = x.shape[2:]
    shape = (*x.shape[:2], -(-height // 2), -(-width // 2))
    pads = [0, 0, height % 2, width % 2]
    return x.apply("MaxPool", shape=shape, kernel_shape=[2, 2], strides=[2, 2], pads=pads)


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
    windows = _to_windows(x, (side, side))
    qkv = dense(windows, weights / "qkv") if version == 1 else _without_key_bias(windows, weights / "qkv")
    q, k, v = _heads(qkv, heads)
    if version == 1:
        scores = (q * np.float32((channels // heads) ** -0.5)) @ k.transpose(0, 1, 3, 2)
    else:
        scale = np.exp(np.minimum(weights.param("logit_scale"), np.float32(np.log(100.0))))
        scores = (_unit(q.cast(np.float32)) @ _unit(k.cast(np.float32)).transpose(0, 1, 3, 2)) * scale
    scores = scores.cast(np.float32) + _position_bias(version, side, weights)
    if any(moved):
        same = np.asarray(same_region(padded, moved, side))
        scores = scores + np.where(same, 0.0, OTHER_REGION).astype(np.float32)[:, None]
    y = (scores.apply("Softmax", axis=-1).cast(v.dtype) @ v).transpose(0, 2, 1, 3).reshape(-1, side * side, channels)
    y = _from_windows(dense(y, weights / "project"), padded, (side, side))
    y = _roll(y, tuple(-cells for cells in moved))
    return y.slice(1, 0, height).slice(2, 0, width)


def _to_windows(x: Tensor, sides: tuple[int, int]) -> Tensor:
    """[1 h w c] as windows [n t c]."""
    _, height, width, channels = x.shape
    x = x.reshape(height // sides[0], sides[0], width // sides[1], sides[1], channels).transpose(0, 2, 1, 3, 4)
    return x.reshape(-1, sides[0] * sides[1], channels)


def _from_windows(x: Tensor, hw: tuple[int, int], sides: tuple[int, int]) -> Tensor:
    """Windows [n t c] as [1 h w c]."""
    x = x.reshape(hw[0] // sides[0], hw[1] // sides[1], *sides, x.shape[-1]).transpose(0, 2, 1, 3, 4)
    return x.reshape(1, *hw, x.shape[-1])


def _heads(qkv: Tensor, heads: int) -> list[Tensor]:
    """Queries, keys and values [n heads t c] of windows [n t 3*heads*c]."""
    _, cells, channels = qkv.shape
    qkv = qkv.reshape(-1, cells, 3, heads, channels // (3 * heads)).transpose(2, 0, 3, 1, 4)
    return [qkv.slice(0, i, i + 1).reshape(*qkv.shape[1:]) for i in range(3)]


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
    return x @ x.constant(weights.param("kernel")) + bias


def _unit(x: Tensor) -> Tensor:
    """`x` over its length."""
    squares = (x * x).reduce("Mean", -1, keepdims=True) * np.float32(x.shape[-1])
    return x / squares.apply("Sqrt").maximum(1e-12)


def _merge(x: Tensor, module: Swin, weights: Weights, norm: Weights) -> Tensor:
    height, width, channels = (side + side % 2 if axis < 2 else side for axis, side in enumerate(x.shape[1:]))
    x = _pad(x, (height, width)).reshape(height // 2, 2, width // 2, 2, channels).transpose(0, 2, 3, 1, 4)
    x = x.reshape(1, height // 2, width // 2, 4 * channels)  # the order of the four cells: column, then row
    return dense(_norm(x, norm), weights) if module.version == 1 else _norm(dense(x, weights), norm)


def _norm(x: Tensor, weights: Weights, epsilon: float = EPSILON) -> Tensor:
    scale, bias = (x.constant(weights.param(name)) for name in ("scale", "bias"))
    return x.apply("LayerNormalization", scale, bias, axis=-1, epsilon=epsilon)


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
