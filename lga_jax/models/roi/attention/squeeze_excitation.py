"""Squeeze-and-excitation on RoI crops."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

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
        gate = nn.sigmoid(squeeze_excite(crops.mean(axis=(-3, -2)), self.reduction, self.dtype))
        return Attention(fused=crops * gate[..., None, None, :])


def squeeze_excite(x: Float[Array, "*n c"], reduction: int, dtype: Any) -> Float[Array, "*n c"]:
    """Two dense layers with c / reduction hidden units. Call it inside a compact method: both become its submodules."""
    squeeze = Dense(x.shape[-1] // reduction, kernel_init=xavier_caffe2, dtype=dtype, name="squeeze")
    return Dense(x.shape[-1], kernel_init=xavier_caffe2, dtype=dtype, name="excite")(nn.relu(squeeze(x)))
