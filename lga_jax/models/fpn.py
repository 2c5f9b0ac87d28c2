"""Feature Pyramid Network (Lin et al. 2017): C2..C5 in, P2..P6 out."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from lga_jax.models.layers import conv_norm

STRIDES = (4, 8, 16, 32, 64)  # of P2..P6


class FPN(nn.Module):
    """Top-down sums of 1x1 laterals, each smoothed by a 3x3 convolution; P6 is every second cell of P5."""

    channels: int
    norm: str = "none"  # behind every convolution: "none" or one of layers.NORMS
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: list[Float[Array, "b _ _ _"]], train: bool) -> list[Float[Array, "b _ _ c"]]:
        rule = dict(features=self.channels, norm=self.norm, dtype=self.dtype)
        top_down = None
        pyramid = []
        for level in range(len(features) + 1, 1, -1):
            lateral = conv_norm(features[level - 2], train, kernel_size=1, name=f"lateral{level}", **rule)
            if top_down is not None:
                lateral += _upsample(top_down)[:, : lateral.shape[1], : lateral.shape[2]]
            top_down = lateral
            pyramid.insert(0, conv_norm(top_down, train, kernel_size=3, name=f"output{level}", **rule))
        return [*pyramid, pyramid[-1][:, ::2, ::2]]


def averaged_pyramid(c2: Float[Array, "b h w c"]) -> list[Float[Array, "b _ _ c"]]:
    """C2, and its averages at the strides of P3 to P5.

    However large the object, a cell sees little beyond itself: unlike P2 to P5, nothing here has passed deeper stages.
    """
    levels = [c2]
    for _ in range(3):
        # The count of cells that it divides by is float32.
        average = nn.avg_pool(levels[-1], (2, 2), (2, 2), padding="SAME", count_include_pad=False)
        levels.append(average.astype(c2.dtype))
    return levels


def _upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Nearest neighbour, twice the size."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)
