"""CBAM on RoI crops."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from lga_jax.models.layers import xavier_caffe2
from lga_jax.models.roi.attention import Crop
from lga_jax.models.roi.attention.squeeze_excitation import squeeze_excite
from lga_jax.structs import Attention


class CBAM(nn.Module):
    """Convolutional block attention (Woo et al. 2018): channel attention (eq. 2), then spatial attention (eq. 3)."""

    reduction: int
    kernel_size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, crop: Crop, train: bool) -> Attention:
        crops = crop("pyramid")
        pooled = jnp.stack([crops.mean(axis=(-3, -2)), crops.max(axis=(-3, -2))])
        channel_gate = nn.sigmoid(squeeze_excite(pooled, self.reduction, self.dtype).sum(axis=0))
        x = crops * channel_gate[..., None, None, :]

        descriptor = jnp.stack([x.mean(axis=-1), x.max(axis=-1)], axis=-1)
        spatial = nn.Conv(1, (self.kernel_size, self.kernel_size), kernel_init=xavier_caffe2, dtype=self.dtype)
        return Attention(fused=x * nn.sigmoid(spatial(descriptor)))
