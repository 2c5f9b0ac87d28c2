"""Squeeze-and-excitation on RoI crops."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from lga_jax.models.layers import Dense, xavier_caffe2
from lga_jax.models.roi.attention import Crop
from lga_jax.structs import Attention


class SqueezeExcitation(nn.Module):
    """One weight per channel from the mean of the crop (Hu et al. 2018, eq. 2 to 4)."""

    reduction: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, crop: Crop, train: bool) -> Attention:
        crops = crop("pyramid")
        channels = crops.shape[-1]
        squeeze = Dense(channels // self.reduction, kernel_init=xavier_caffe2, dtype=self.dtype, name="squeeze")
        excite = Dense(channels, kernel_init=xavier_caffe2, dtype=self.dtype, name="excite")
        gate = nn.sigmoid(excite(nn.relu(squeeze(crops.mean(axis=(-3, -2))))))
        return Attention(fused=crops * gate[..., None, None, :])
