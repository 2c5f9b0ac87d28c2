"""Close-ups: the region of every Gaussian mask, read again from finer features.

A mask on a crop of 7 x 7 cells weights cells; it adds no detail that the crop does not have. docs/study.md measures
both.
"""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lga_jax.models.layers import Dense, xavier_caffe2
from lga_jax.models.roi.attention import RoIFeatures
from lga_jax.ops.gaussian import CLOSE_UP_REACH
from lga_jax.structs import Gaussians


class CloseUps(nn.Module):
    """Reads the region mu +- CLOSE_UP_REACH sigma of every mask at points x points places, and describes it.

    The features are those of the backbone's first stage, one level finer than the RoI's own where there is one. A 1x1
    convolution reduces them, and a hidden layer reads all points of a mask; the masks share both. The places are
    differentiable in mu and sigma: a mask moves to where its close-up helps.
    """

    points: int  # per side
    channels: int  # after the convolution, and of the hidden layer
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, crop: RoIFeatures, gaussians: Gaussians) -> Float[Array, "*n m _"]:
        dense = functools.partial(Dense, self.channels, kernel_init=xavier_caffe2, dtype=self.dtype)
        size, (*batch, num_masks, _) = gaussians.masks.shape[-1], gaussians.centres.shape
        offsets = gaussians.sigmas[..., None, :] * close_up_grid(self.points)
        places = (gaussians.centres[..., None, :] + offsets) / size
        # The convolution commutes with the interpolation. There are fewer cells than points, and then a point reads
        # fewer channels.
        details = crop.points("c2", places.reshape(*batch, -1, 2), finer=1, through=dense(name="reduce"))
        return nn.relu(dense(name="hidden")(nn.relu(details).reshape(*batch, num_masks, -1)))


class AddCloseUps(nn.Module):
    """Adds a projection of all close-ups of a RoI to every cell of its crop.

    The projection starts at zero, so at the start of training close-ups change nothing. It has no gate in addition:
    with Adam a single scalar moves too slowly.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, crops: Float[Array, "*n s s c"], details: Float[Array, "*n m _"]) -> Float[Array, "*n s s c"]:
        details = details.reshape(*details.shape[:-2], -1)
        project = Dense(crops.shape[-1], kernel_init=nn.initializers.zeros, dtype=self.dtype, name="project")
        return crops + project(details).astype(crops.dtype)[..., None, None, :]


def close_up_grid(points: int) -> Float[np.ndarray, "n 2"]:
    """(x, y) of the points of a close-up relative to the centre of its mask, in sigmas, row by row."""
    along = CLOSE_UP_REACH * ((2.0 * np.arange(points) + 1.0) / points - 1.0)
    return np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2).astype(np.float32)
