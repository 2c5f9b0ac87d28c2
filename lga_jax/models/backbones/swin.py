"""Swin Transformer (Liu et al. 2021) and its second version (Liu et al. 2022), without their classifiers."""

from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from lga_jax.models.backbones import part_by_name
from lga_jax.models.backbones.stochastic_depth import residual_factors, scaled
from lga_jax.models.layers import Dense
from lga_jax.ops.cpu import matmul


class Architecture(NamedTuple):
    """Blocks of the four stages, channels of the first (each stage doubles them), and heads of every stage."""

    blocks: tuple[int, int, int, int]
    channels: int
    heads: tuple[int, int, int, int]


ARCHITECTURES = {
    "tiny": Architecture((2, 2, 6, 2), 96, (3, 6, 12, 24)),
    "small": Architecture((2, 2, 18, 2), 96, (3, 6, 12, 24)),
    "base": Architecture((2, 2, 18, 2), 128, (4, 8, 16, 32)),
}
WINDOWS = {1: 7, 2: 8}  # version: side of a window, cells
EPSILON = 1e-5  # of every layer norm
OTHER_REGION = -100.0  # added to the score of two cells that were not neighbours before the shift
_small = nn.initializers.truncated_normal(0.02)


class Projection(nn.Module):
    """Queries, keys and values of every cell. In version 2 keys have no bias."""

    key_bias: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "*n c"]) -> Float[Array, "*n 3*c"]:
        channels = x.shape[-1]
        kernel = self.param("kernel", _small, (channels, 3 * channels))
        bias = self.param("bias", nn.initializers.zeros, (3 * channels,))
        if not self.key_bias:
            bias *= np.repeat(np.float32((1, 0, 1)), channels)
        y = matmul(x.reshape(-1, channels).astype(self.dtype), kernel.astype(self.dtype))
        return (y + bias.astype(self.dtype)).reshape(*x.shape[:-1], -1)


class WindowAttention(nn.Module):
    """Self-attention within windows. The windows are moved by `shift` cells to the lower right."""

    heads: int
    version: int
    shift: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Zeros complete the windows at the right and lower edge; they take part in the attention, as published."""
        side = WINDOWS[self.version]
        _, height, width, channels = x.shape
        padded = tuple(-(-length // side) * side for length in (height, width))
        shift = tuple(self.shift if length > side else 0 for length in padded)
        x = jnp.pad(x, ((0, 0), (0, padded[0] - height), (0, padded[1] - width), (0, 0)))
        windows = to_windows(jnp.roll(x, (-shift[0], -shift[1]), (1, 2)), side)
        qkv = Projection(self.version == 1, self.dtype, name="qkv")(windows)
        qkv = qkv.reshape(*windows.shape[:3], 3, self.heads, channels // self.heads)
        scores = self._scores(qkv[..., 0, :, :], qkv[..., 1, :, :]) + self._position_bias(side)
        if any(shift):
            separate = ~same_region(padded, shift, side)
            scores += jnp.where(separate, OTHER_REGION, 0.0)[None, :, None]
        weights = nn.softmax(scores).astype(self.dtype)
        y = jnp.einsum("bnhqk,bnkhc->bnqhc", weights, qkv[..., 2, :, :]).reshape(windows.shape)
        y = Dense(channels, kernel_init=_small, dtype=self.dtype, name="project")(y)
        y = jnp.roll(from_windows(y, padded), shift, (1, 2))
        return y[:, :height, :width]

    def _scores(self, q: Float[Array, "b n t e c"], k: Float[Array, "b n t e c"]) -> Float[Array, "b n e t t"]:
        """Dot products over the root of the channels, or in version 2 cosines times a trained scale; float32."""
        if self.version == 1:
            return _products(q * q.shape[-1] ** -0.5, k)
        scale = self.param("logit_scale", nn.initializers.constant(np.log(10.0)), (self.heads, 1, 1))
        return _products(_unit(q), _unit(k)) * jnp.exp(jnp.minimum(scale, np.log(100.0)))

    def _position_bias(self, side: int) -> Float[Array, "e t t"]:
        """A bias for each head and pair of cells, a function of their distance per axis."""
        if self.version == 1:
            table = self.param("bias_table", _small, ((2 * side - 1) ** 2, self.heads))
        else:
            hidden = nn.relu(nn.Dense(512, kernel_init=_small, name="bias_expand")(log_distances(side)))
            table = 16.0 * nn.sigmoid(nn.Dense(self.heads, use_bias=False, name="bias_project")(hidden))
        return jnp.moveaxis(table[distance_index(side)], -1, 0)


class Block(nn.Module):
    """Attention and two dense layers with GELU, each added to its input; a layer norm before each, or after it (2)."""

    heads: int
    version: int
    shift: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], factors: Float[Array, "b 2"] | None = None
    ) -> Float[Array, "b h w c"]:
        channels = x.shape[-1]
        attention = WindowAttention(self.heads, self.version, self.shift, self.dtype, name="attention")
        expand = Dense(4 * channels, kernel_init=_small, dtype=self.dtype, name="expand")
        shrink = Dense(channels, kernel_init=_small, dtype=self.dtype, name="shrink")

        def perceptron(y: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
            return shrink(nn.gelu(expand(y), approximate=False))

        for number, layer in enumerate((attention, perceptron)):
            norm = nn.LayerNorm(EPSILON, dtype=self.dtype, name=f"norm{number + 1}")
            x = x + scaled(layer(norm(x)) if self.version == 1 else norm(layer(x)), factors, number)
        return x


class Swin(nn.Module):
    """Backbone; returns C2..C5 with strides 4, 8, 16 and 32, each after a layer norm of its own.

    Part 0 is the stem; part n is the merging of patches and the blocks of stage n. The norms of the outputs belong to
    no part and are always trained: classifiers do not have them.
    """

    strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)

    variant: str
    version: int
    frozen_stages: int
    remat: bool = False  # recomputes the activations inside each block in the backward pass instead of storing them
    dtype: Any = jnp.float32
    stochastic_depth: float = 0.0  # share of the images in which training skips a layer of the last block

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], train: bool, keys: Key[Array, "b"] | None = None
    ) -> list[Float[Array, "b _ _ _"]]:
        blocks, channels, heads = ARCHITECTURES[self.variant]
        block_class = nn.remat(Block) if self.remat else Block
        stem = nn.Conv(channels, (4, 4), (4, 4), padding="SAME", kernel_init=_small, dtype=self.dtype, name="stem")
        x = self._norm("stem_norm")(stem(x))
        x = x if self.frozen_stages < 1 else jax.lax.stop_gradient(x)
        factors, features = residual_factors(keys, blocks, self.frozen_stages, self.stochastic_depth, 2), []
        for part, count in enumerate(blocks, start=1):
            x = x if part == 1 else self._merge(x, f"merge{part}")
            for number in range(count):
                shift = WINDOWS[self.version] // 2 if number % 2 else 0
                block = block_class(heads[part - 1], self.version, shift, self.dtype, name=f"layer{part}_{number}")
                x = block(x, next(factors))
            x = x if self.frozen_stages <= part else jax.lax.stop_gradient(x)
            features.append(self._norm(f"output{part + 1}_norm")(x))
        return features

    def _merge(self, x: Float[Array, "b h w c"], name: str) -> Float[Array, "b _ _ 2*c"]:
        """Joins 2 x 2 cells: a layer norm and a dense layer, in the other order in version 2."""
        reduce = Dense(2 * x.shape[-1], use_bias=False, kernel_init=_small, dtype=self.dtype, name=name)
        norm = self._norm(f"{name}_norm")
        x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
        x = jnp.concatenate([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], axis=-1)
        return reduce(norm(x)) if self.version == 1 else norm(reduce(x))

    def _norm(self, name: str) -> nn.LayerNorm:
        return nn.LayerNorm(EPSILON, dtype=self.dtype, name=name)

    @staticmethod
    def part_of(path: tuple[str, ...]) -> int:
        """stem: 0; merge2, layer2_0, ...: 2; the norms of the outputs: 5, behind all stages."""
        return part_by_name(path[0], len(Swin.strides))


def to_windows(x: Float[Array, "b h w c"], side: int) -> Float[Array, "b n t c"]:
    """Windows of side x side cells, row by row, and the cells of each; h and w are multiples of `side`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // side, side, w // side, side, c)
    return jnp.swapaxes(x, 2, 3).reshape(b, -1, side * side, c)


def from_windows(windows: Float[Array, "b n t c"], hw: tuple[int, int]) -> Float[Array, "b h w c"]:
    """The inverse of `to_windows`."""
    side = round(windows.shape[2] ** 0.5)
    b, c = windows.shape[0], windows.shape[-1]
    x = windows.reshape(b, hw[0] // side, hw[1] // side, side, side, c)
    return jnp.swapaxes(x, 2, 3).reshape(b, *hw, c)


def same_region(hw: tuple[int, int], shift: tuple[int, int], side: int) -> Bool[Array, "n t t"]:
    """Which pairs of cells of each window were neighbours before the shift, by the region that each comes from."""

    def regions(length: int, moved: int) -> Int[Array, "n"]:
        position = jnp.arange(length)
        last = (position >= length - side).astype(jnp.int32) + (position >= length - moved)
        return last if moved else jnp.zeros_like(last)

    region = 3 * regions(hw[0], shift[0])[:, None] + regions(hw[1], shift[1])
    cells = to_windows(region[None, :, :, None].astype(jnp.float32), side)[0, :, :, 0]
    return cells[:, :, None] == cells[:, None, :]


def distance_index(side: int) -> np.ndarray:
    """[t t], the number of the distance from cell to cell: all (2 * side - 1) ** 2 distances, row by row."""
    y, x = np.divmod(np.arange(side * side), side)
    rows, columns = (axis[:, None] - axis[None, :] + side - 1 for axis in (y, x))
    return rows * (2 * side - 1) + columns


def log_distances(side: int) -> np.ndarray:
    """[n 2], sign * log2(1 + |8 d|) / 3 of every distance d, which is 1 from end to end (Swin V2, equation 4)."""
    d = 8.0 * np.arange(1 - side, side, dtype=np.float32) / (side - 1)
    d = np.sign(d) * np.log2(1.0 + np.abs(d)) / 3.0
    return np.stack(np.meshgrid(d, d, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)


def _products(q: Float[Array, "b n t e c"], k: Float[Array, "b n t e c"]) -> Float[Array, "b n e t t"]:
    return jnp.einsum("bnqhc,bnkhc->bnhqk", q, k, preferred_element_type=jnp.float32)


def _unit(x: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
    """`x` over its length; float32 inside. Cells of zeros, which complete windows, stay zero and get no gradient."""
    squares = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
    return (x * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))).astype(x.dtype)
