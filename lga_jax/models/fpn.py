"""Feature Pyramid Network (Lin et al. 2017): computes P2..P6 from C2..C5 of the backbone."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from lga_jax.models.layers import conv_norm


def pyramid_strides(strides: Sequence[int]) -> tuple[int, ...]:
    """Strides of the pyramid levels for features with `strides`: the same, and twice the last one."""
    return (*strides, 2 * strides[-1])


class FPN(nn.Module):
    """Top-down sums of 1x1 laterals, each smoothed by a 3x3 convolution.

    The last level is every second cell of the previous level. Level n has stride 2^n.
    """

    channels: int
    strides: tuple[int, ...]  # strides of the features, finest first; each is twice the previous one
    norm: str = "none"  # norm after every convolution: "none" or one of layers.NORMS
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: list[Float[Array, "b _ _ _"]], train: bool) -> list[Float[Array, "b _ _ c"]]:
        rule = dict(features=self.channels, norm=self.norm, dtype=self.dtype)
        top_down = None
        pyramid = []
        for x, stride in zip(features[::-1], self.strides[::-1], strict=True):
            level = stride.bit_length() - 1
            lateral = conv_norm(x, train, kernel_size=1, name=f"lateral{level}", **rule)
            if top_down is not None:
                lateral += _upsample(top_down)[:, : lateral.shape[1], : lateral.shape[2]]
            top_down = lateral
            pyramid.insert(0, conv_norm(top_down, train, kernel_size=3, name=f"output{level}", **rule))
        return [*pyramid, pyramid[-1][:, ::2, ::2]]


def averaged_pyramid(c2: Float[Array, "b h w c"], num_levels: int) -> list[Float[Array, "b _ _ c"]]:
    """C2 and its averages, each over twice as many pixels per side, at the strides of P2, P3, ...

    The receptive field of a cell is small on every level, because no deeper stage of the backbone is involved.
    """
    levels = [c2]
    for _ in range(num_levels - 1):
        # avg_pool divides by a float32 count, so the result is converted back.
        average = nn.avg_pool(levels[-1], (2, 2), (2, 2), padding="SAME", count_include_pad=False)
        levels.append(average.astype(c2.dtype))
    return levels


def _upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Nearest-neighbour upsampling by 2."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)
