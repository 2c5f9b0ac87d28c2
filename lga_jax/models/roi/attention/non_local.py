"""Non-local attention on RoI crops."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lga_jax.models.layers import Dense, kaiming_fan_out
from lga_jax.models.roi.attention import Crop
from lga_jax.structs import Attention


class NonLocal(nn.Module):
    """Non-local block, embedded Gaussian form with residual (Wang et al. 2018, eq. 6), over the cells of a crop.

    The output projection starts at zero, so the initial block is the identity.
    """

    reduction: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, crop: Crop, train: bool) -> Attention:
        crops = crop("pyramid")
        *batch, height, width, channels = crops.shape
        cells = crops.reshape(*batch, height * width, channels)
        inner = channels // self.reduction
        query, key, value = (
            Dense(inner, kernel_init=kaiming_fan_out, dtype=self.dtype, name=name)(cells)
            for name in ("query", "key", "value")
        )
        affinity = jax.nn.softmax(jnp.einsum("...ic,...jc->...ij", query, key).astype(jnp.float32), axis=-1)
        gathered = jnp.einsum("...ij,...jc->...ic", affinity.astype(self.dtype), value)
        update = Dense(channels, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="output")(gathered)
        return Attention(fused=crops + update.reshape(crops.shape))
