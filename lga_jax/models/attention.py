"""The blocks that LGA is compared with, at the very same place: CBAM and non-local attention on RoI crops."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lga_jax.models.layers import Dense, kaiming_fan_out, xavier_caffe2
from lga_jax.structs import Attention


class NoAttention(nn.Module):
    """Plain Faster R-CNN: crops pass unchanged."""

    @nn.compact
    def __call__(self, crops: Float[Array, "*n s s c"]) -> Attention:
        return Attention(fused=crops, gaussians=None)


class CBAM(nn.Module):
    """Convolutional block attention (Woo et al. 2018): channel attention (eq. 2), then spatial attention (eq. 3)."""

    reduction: int
    kernel_size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, crops: Float[Array, "*n s s c"]) -> Attention:
        channels = crops.shape[-1]
        squeeze = Dense(channels // self.reduction, kernel_init=xavier_caffe2, dtype=self.dtype, name="squeeze")
        excite = Dense(channels, kernel_init=xavier_caffe2, dtype=self.dtype, name="excite")
        pooled = jnp.stack([crops.mean(axis=(-3, -2)), crops.max(axis=(-3, -2))])
        channel_gate = nn.sigmoid(excite(nn.relu(squeeze(pooled))).sum(axis=0))
        x = crops * channel_gate[..., None, None, :]

        descriptor = jnp.stack([x.mean(axis=-1), x.max(axis=-1)], axis=-1)
        spatial = nn.Conv(1, (self.kernel_size, self.kernel_size), kernel_init=xavier_caffe2, dtype=self.dtype)
        return Attention(fused=x * nn.sigmoid(spatial(descriptor)), gaussians=None)


class NonLocal(nn.Module):
    """Non-local block, embedded Gaussian form with residual (Wang et al. 2018, eq. 6), over the cells of a crop.

    The output projection starts at zero, so that the block starts as the identity.
    """

    reduction: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, crops: Float[Array, "*n s s c"]) -> Attention:
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
        return Attention(fused=crops + update.reshape(crops.shape), gaussians=None)
