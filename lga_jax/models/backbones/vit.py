"""Plain Vision Transformer (Dosovitskiy et al. 2021) with a simple feature pyramid (ViTDet, Li et al. 2022)."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from lga_jax.models.backbones import block_by_name, part_by_name
from lga_jax.models.backbones.stochastic_depth import residual_factors, scaled
from lga_jax.models.backbones.swin import from_windows, to_windows
from lga_jax.models.layers import Deconv, Dense

ARCHITECTURES = {"small": (384, 6), "base": (768, 12)}  # variant: channels, heads
NUM_PARTS, BLOCKS = 4, 3  # the last block of each part sees the whole image
PATCH = 16  # pixels
WINDOW = 14  # side of the windows of the other blocks, cells
GRID = 14  # side of the image of the published classifiers, cells: 224 pixels
EPSILON = 1e-6  # of every layer norm
_CUBIC = -0.75  # slope of PyTorch's cubic interpolation
_small = nn.initializers.truncated_normal(0.02)


class Attention(nn.Module):
    """Self-attention within windows, or of all cells."""

    heads: int
    window: int  # side, cells; 0: all cells
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Zeros complete the windows at the right and lower edge; they take part in the attention, as published."""
        _, height, width, channels = x.shape
        padded = padded_sides((height, width), self.window)
        x = jnp.pad(x, ((0, 0), (0, padded[0] - height), (0, padded[1] - width), (0, 0)))
        windows = to_windows(x, self.window) if self.window else x.reshape(len(x), 1, -1, channels)
        qkv = Dense(3 * channels, kernel_init=_small, dtype=self.dtype, name="qkv")(windows)
        qkv = qkv.reshape(-1, windows.shape[2], 3, self.heads, channels // self.heads)
        y = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]).reshape(windows.shape)
        y = Dense(channels, kernel_init=_small, dtype=self.dtype, name="project")(y)
        y = from_windows(y, padded) if self.window else y.reshape(x.shape)
        return y[:, :height, :width]


class Block(nn.Module):
    """Attention and two dense layers with GELU, each after a layer norm and added to its input."""

    heads: int
    window: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], factors: Float[Array, "b 2"] | None = None
    ) -> Float[Array, "b h w c"]:
        channels = x.shape[-1]
        y = nn.LayerNorm(EPSILON, dtype=self.dtype, name="norm1")(x)
        x = x + scaled(Attention(self.heads, self.window, self.dtype, name="attention")(y), factors, 0)
        y = nn.LayerNorm(EPSILON, dtype=self.dtype, name="norm2")(x)
        y = nn.gelu(Dense(4 * channels, kernel_init=_small, dtype=self.dtype, name="expand")(y), approximate=False)
        return x + scaled(Dense(channels, kernel_init=_small, dtype=self.dtype, name="shrink")(y), factors, 1)


class ViT(nn.Module):
    """Backbone; returns maps with strides 4, 8, 16 and 32, computed from the last block's map of stride 16.

    There is neither a class token nor a relative position. The simple pyramid ends before its two convolutions per
    level, which are those of the FPN. Part 0 is the stem with the positions; part n has three blocks. The layers of the
    pyramid belong to no part and are always trained: classifiers do not have them.
    """

    strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)

    variant: str
    frozen_stages: int
    remat: bool = False  # recomputes the activations inside each block in the backward pass instead of storing them
    dtype: Any = jnp.float32
    stochastic_depth: float = 0.0  # share of the images in which training skips a layer of the last block

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], train: bool, keys: Key[Array, "b"] | None = None
    ) -> list[Float[Array, "b _ _ _"]]:
        channels, heads = ARCHITECTURES[self.variant]
        block_class = nn.remat(Block) if self.remat else Block
        hw = x.shape[1:3]
        rule = dict(padding="SAME", kernel_init=_small, dtype=self.dtype)
        x = nn.Conv(channels, (PATCH, PATCH), (PATCH, PATCH), name="stem", **rule)(x)
        # As published: the position of the class token, then those of the cells, row by row.
        stored = self.param("stem_position", _small, (1, 1 + GRID * GRID, channels))
        x = x + positions(stored[0, 1:], x.shape[1:3]).astype(self.dtype)
        x = x if self.frozen_stages < 1 else jax.lax.stop_gradient(x)
        factors = residual_factors(keys, (BLOCKS,) * NUM_PARTS, self.frozen_stages, self.stochastic_depth, 2)
        for part in range(1, NUM_PARTS + 1):
            for number in range(BLOCKS):
                window = WINDOW if number < BLOCKS - 1 else 0
                x = block_class(heads, window, self.dtype, name=f"layer{part}_{number}")(x, next(factors))
            x = x if self.frozen_stages <= part else jax.lax.stop_gradient(x)
        return self._pyramid(x, hw)

    def _pyramid(self, x: Float[Array, "b _ _ c"], hw: tuple[int, int]) -> list[Float[Array, "b _ _ _"]]:
        """Maps of four scales, each after a layer norm."""
        channels = x.shape[-1]
        fine = nn.gelu(self._norm("output2_up1_norm")(self._twice(x, channels // 2, "output2_up1")), approximate=False)
        maps = [
            self._twice(fine, channels // 4, "output2_up2"),
            self._twice(x, channels // 2, "output3_up"),
            x,
            nn.max_pool(x, (2, 2), (2, 2), padding="SAME"),
        ]
        cut = (
            level[:, : -(-hw[0] // stride), : -(-hw[1] // stride)]
            for level, stride in zip(maps, self.strides, strict=True)
        )
        return [self._norm(f"output{number}_norm")(level) for number, level in enumerate(cut, start=2)]

    def _twice(self, x: Float[Array, "b h w c"], features: int, name: str) -> Float[Array, "b 2*h 2*w o"]:
        b, h, w, _ = x.shape
        y = Deconv(features, self.dtype, name=name)(x)
        return jnp.swapaxes(y, 2, 3).reshape(b, 2 * h, 2 * w, features)

    def _norm(self, name: str) -> nn.LayerNorm:
        return nn.LayerNorm(EPSILON, dtype=self.dtype, name=name)

    @staticmethod
    def part_of(path: tuple[str, ...]) -> int:
        """stem, stem_position: 0; layer2_0, ...: 2; the layers of the pyramid: 5, behind all parts."""
        return part_by_name(path[0], NUM_PARTS)

    @staticmethod
    def rate_power(path: tuple[str, ...]) -> int:
        """Every block is a layer, as in ViTDet: the last block has 1, the first 12, the stem 13, the pyramid 0."""
        part = ViT.part_of(path)
        if part in (0, NUM_PARTS + 1):
            return 0 if part else NUM_PARTS * BLOCKS + 1
        return NUM_PARTS * BLOCKS - BLOCKS * (part - 1) - block_by_name(path[0])


def padded_sides(hw: tuple[int, int], window: int) -> tuple[int, int]:
    """The sides of whole windows that cover a map; 0: the map itself."""
    return hw if not window else (-(-hw[0] // window) * window, -(-hw[1] // window) * window)


def positions(grid: Float[Array, "n c"], hw: tuple[int, int]) -> Float[Array, "h w c"]:
    """The GRID x GRID positions at the cells of a map of another size, bicubic as in ViTDet."""
    rows, columns = (jnp.asarray(cubic_weights(side, GRID)) for side in hw)
    return jnp.einsum("hi,wj,ijc->hwc", rows, columns, grid.reshape(GRID, GRID, -1))


def cubic_weights(side: int, cells: int) -> np.ndarray:
    """[side cells], the weights of `cells` values at `side` places (Keys 1981); beyond the ends, the last value."""
    place = (np.arange(side) + 0.5) * cells / side - 0.5
    taps = np.floor(place)[:, None] + np.arange(-1, 3)
    d, a = np.abs(place[:, None] - taps), _CUBIC
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * (d**3 - 5 * d**2 + 8 * d - 4)
    weights = np.zeros((side, cells))
    index = np.clip(taps, 0, cells - 1).astype(int)
    np.add.at(weights, (np.arange(side)[:, None], index), np.where(d <= 1, near, far))
    return weights.astype(np.float32)
