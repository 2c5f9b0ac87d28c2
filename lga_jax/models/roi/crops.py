"""The features of RoIs that an attention asks for."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lga_jax.models.roi.attention import Level
from lga_jax.ops.point_sampling import sample_points
from lga_jax.ops.roi_align import multilevel_roi_align, pyramid_level

# Functions that compute the feature maps of a level, one map per stride of the backbone.
Levels = Mapping[Level, Callable[[], list[Float[Array, "b _ _ c"]]]]


class RoICrops:
    """The `RoIFeatures` of an attention: cuts the RoIs of a batch out of feature maps, on demand."""

    def __init__(
        self, levels: Levels, boxes: Float[Array, "b r 4"], strides: tuple[int, ...], roi_align: Mapping[str, Any]
    ) -> None:
        self.levels, self.boxes, self.strides, self.roi_align = levels, boxes, strides, roi_align

    def __call__(self, level: Level) -> Float[Array, "b r s s c"]:
        align = functools.partial(multilevel_roi_align, strides=self.strides, **self.roi_align)
        return jax.vmap(align)(self.levels[level](), self.boxes)

    def points(
        self,
        level: Level,
        positions: Float[Array, "b r p 2"],
        finer: int = 0,
        through: Callable[[Array], Array] = lambda features: features,
    ) -> Float[Array, "b r p c"]:
        corner, size = self.boxes[..., None, :2], self.boxes[..., None, 2:] - self.boxes[..., None, :2]
        places = jax.lax.stop_gradient(corner) + positions * jax.lax.stop_gradient(size)
        number = jax.vmap(functools.partial(pyramid_level, strides=self.strides))(self.boxes)
        sample = functools.partial(sample_points, strides=self.strides)
        maps = [through(features) for features in self.levels[level]()]
        return jax.vmap(sample)(maps, places, jnp.maximum(number - finer, 0))
