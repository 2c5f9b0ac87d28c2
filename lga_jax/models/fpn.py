"""Feature Pyramid Network (Lin et al. 2017): C2..C5 in, P2..P6 out."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from lga_jax.models.layers import Conv

STRIDES = (4, 8, 16, 32, 64)  # of P2..P6


class FPN(nn.Module):
    """Top-down sums of 1x1 laterals, each smoothed by a 3x3 convolution; P6 is every second cell of P5."""

    channels: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: list[Float[Array, "b _ _ _"]]) -> list[Float[Array, "b _ _ c"]]:
        top_down = None
        pyramid = []
        for level in range(len(features) + 1, 1, -1):
            lateral = Conv(self.channels, 1, dtype=self.dtype, name=f"lateral{level}")(features[level - 2])
            if top_down is not None:
                lateral += _upsample(top_down)[:, : lateral.shape[1], : lateral.shape[2]]
            top_down = lateral
            pyramid.insert(0, Conv(self.channels, 3, dtype=self.dtype, name=f"output{level}")(top_down))
        return [*pyramid, pyramid[-1][:, ::2, ::2]]


def _upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Nearest neighbour, twice the size."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)
