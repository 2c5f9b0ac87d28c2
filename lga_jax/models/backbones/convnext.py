"""ConvNeXt (Liu et al. 2022) without its classifier."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from lga_jax.models.backbones import block_by_name, part_by_name
from lga_jax.models.backbones.stochastic_depth import residual_factors, scaled
from lga_jax.models.layers import Dense
from lga_jax.ops.cpu.depthwise import depthwise_conv2d

# variant: blocks and channels of the four stages (Liu et al. 2022, section 3)
ARCHITECTURES = {
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
}
EPSILON = 1e-6  # of every layer norm
_small = nn.initializers.truncated_normal(0.02)


class DepthwiseConv(nn.Module):
    """7 x 7 depthwise convolution with bias."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        kernel = self.param("kernel", _small, (7, 7, 1, x.shape[-1]))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return depthwise_conv2d(x.astype(self.dtype), kernel[:, :, 0].astype(self.dtype)) + bias.astype(self.dtype)


class Block(nn.Module):
    """Depthwise convolution, layer norm, two dense layers with GELU, layer scale; plus the input."""

    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], factors: Float[Array, "b 1"] | None = None
    ) -> Float[Array, "b h w c"]:
        channels = x.shape[-1]
        y = DepthwiseConv(self.dtype, name="depthwise")(x)
        y = nn.LayerNorm(EPSILON, dtype=self.dtype, name="norm")(y)
        y = nn.gelu(Dense(4 * channels, kernel_init=_small, dtype=self.dtype, name="expand")(y), approximate=False)
        y = Dense(channels, kernel_init=_small, dtype=self.dtype, name="project")(y)
        y = self.param("layer_scale", nn.initializers.constant(1e-6), (channels,)).astype(self.dtype) * y
        return x + scaled(y, factors, 0)


class ConvNeXt(nn.Module):
    """Backbone; returns C2..C5 with strides 4, 8, 16 and 32, each after a layer norm of its own.

    Part 0 is the stem; part n is the downsampling and the blocks of stage n. The norms of the outputs belong to no part
    and are always trained: classifiers do not have them.
    """

    strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)

    variant: str
    frozen_stages: int
    remat: bool = False  # recomputes the activations inside each block in the backward pass instead of storing them
    dtype: Any = jnp.float32
    stochastic_depth: float = 0.0  # share of the images in which training skips the last block; earlier blocks: less

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], train: bool, keys: Key[Array, "b"] | None = None
    ) -> list[Float[Array, "b _ _ _"]]:
        blocks, channels = ARCHITECTURES[self.variant]
        block_class = nn.remat(Block) if self.remat else Block
        x = self._norm("stem_norm")(self._patches(4, channels[0], "stem")(x))
        x = x if self.frozen_stages < 1 else jax.lax.stop_gradient(x)
        factors, features = residual_factors(keys, blocks, self.frozen_stages, self.stochastic_depth, 1), []
        for part, (count, width) in enumerate(zip(blocks, channels, strict=True), start=1):
            if part > 1:
                x = self._patches(2, width, f"down{part}")(self._norm(f"down{part}_norm")(x))
            for number in range(count):
                x = block_class(self.dtype, name=f"layer{part}_{number}")(x, next(factors))
            x = x if self.frozen_stages <= part else jax.lax.stop_gradient(x)
            features.append(self._norm(f"output{part + 1}_norm")(x))
        return features

    def _patches(self, size: int, features: int, name: str) -> nn.Conv:
        """A convolution of patches that do not overlap. Zeros complete the patches at the right and lower edge."""
        return nn.Conv(
            features, (size, size), (size, size), padding="SAME", kernel_init=_small, dtype=self.dtype, name=name
        )

    def _norm(self, name: str) -> nn.LayerNorm:
        return nn.LayerNorm(EPSILON, dtype=self.dtype, name=name)

    @staticmethod
    def part_of(path: tuple[str, ...]) -> int:
        """stem: 0; down2, layer2_0, ...: 2; the norms of the outputs: 5, behind all stages."""
        return part_by_name(path[0], len(ConvNeXt.strides))

    def rate_power(self, path: tuple[str, ...]) -> int:
        """A stage is a layer; in the long third stage every three blocks are one (MMDetection's rule for ConvNeXt).

        ConvNeXt-T: stage 4 has 1; stage 3 has 2, 3 and 4; stages 2 and 1 have 5 and 6; the stem has 7.
        """
        part, groups = self.part_of(path), -(-ARCHITECTURES[self.variant][0][2] // 3)
        if part < 3:
            return groups + 4 - part
        return groups + 1 - block_by_name(path[0]) // 3 if part == 3 else 5 - part
