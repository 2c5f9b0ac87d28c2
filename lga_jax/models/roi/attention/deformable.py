"""Deformable RoI pooling: every cell of the crop is read where a learned offset moves it."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lga_jax.models.layers import Dense, xavier_caffe2
from lga_jax.models.roi.attention import RoIFeatures
from lga_jax.structs import Attention


class DeformablePooling(nn.Module):
    """Deformable RoI pooling (Dai et al. 2017, section 2.2), with `modulated` also a weight per cell (Zhu et al. 2019).

    A first crop predicts one offset per cell, `scale` times the size of the RoI. The crop is then read again at the
    moved cells. It starts as RoIAlign without modulation, and with weights of 1 with it.
    """

    hidden: int
    scale: float  # gamma of the paper
    samples: int  # points per cell and axis
    modulated: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, crop: RoIFeatures, train: bool) -> Attention:
        crops = crop("pyramid")
        size = crops.shape[-2]
        hidden = Dense(self.hidden, kernel_init=xavier_caffe2, dtype=self.dtype, name="hidden")
        x = nn.relu(hidden(crops.reshape(*crops.shape[:-3], -1))).astype(jnp.float32)
        offsets = nn.Dense(size**2 * 2, kernel_init=nn.initializers.zeros, name="offsets")(x)
        moved = cell_points(size, self.samples) + self.scale * offsets.reshape(*x.shape[:-1], 1, size**2, 2)
        # One sample point of all cells at a time: less memory than all points at once.
        total = sum(crop.points("pyramid", moved[..., i, :, :]).astype(jnp.float32) for i in range(self.samples**2))
        fused = total / self.samples**2
        if self.modulated:
            gates = nn.Dense(size**2, kernel_init=nn.initializers.zeros, name="gates")(x)
            fused *= 2.0 * nn.sigmoid(gates)[..., None]
        return Attention(fused=fused.astype(crops.dtype).reshape(crops.shape))


def cell_points(size: int, samples: int) -> Float[np.ndarray, "n p 2"]:
    """Positions (x, y) in the RoI of n = samples^2 points in each of p = size^2 cells, evenly spaced."""
    along = (np.arange(size)[:, None] + (np.arange(samples) + 0.5) / samples) / size  # [cell point]
    y, x = (grid.transpose(1, 3, 0, 2).reshape(samples**2, size**2) for grid in _grids(along))
    return np.stack([x, y], axis=-1).astype(np.float32)


def _grids(along: Float[np.ndarray, "s n"]) -> tuple[Array | np.ndarray, Array | np.ndarray]:
    """y and x of [cell row, point row, cell column, point column]."""
    shape = (*along.shape, *along.shape)
    return np.broadcast_to(along[:, :, None, None], shape), np.broadcast_to(along, shape)
