"""The features of RoIs that an attention asks for."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lga_jax.models.fpn import averaged_pyramid
from lga_jax.models.roi.attention import Level
from lga_jax.ops.point_sampling import sample_points
from lga_jax.ops.roi_align import multilevel_roi_align, pyramid_level

Through = Callable[[Array], Array]  # a linear map of the channels of feature maps [.. h w c], such as a 1x1 convolution


class Levels(NamedTuple):
    """The features that a stage can read."""

    pyramid: Sequence[Float[Array, "b _ _ c"]]  # without its last level, which only the RPN reads
    c2: Float[Array, "b _ _ c"] | None = None  # the backbone's first feature map

    def maps(self, level: Level, through: Through | None = None) -> list[Float[Array, "b _ _ _"]]:
        """The feature maps of a level, one per stride, with changed channels."""
        change = through or (lambda features: features)
        if level == "pyramid":
            return [change(features) for features in self.pyramid]
        # Averages of changed channels equal changed averages, and there are fewer channels to average.
        return averaged_pyramid(change(self.c2), len(self.pyramid))


class RoICrops:
    """The `RoIFeatures` of an attention: cuts the RoIs of a batch out of feature maps, on demand."""

    def __init__(
        self, levels: Levels, boxes: Float[Array, "b r 4"], strides: tuple[int, ...], roi_align: Mapping[str, Any]
    ) -> None:
        self.levels, self.boxes, self.strides, self.roi_align = levels, boxes, strides, roi_align

    def __call__(self, level: Level) -> Float[Array, "b r s s c"]:
        align = functools.partial(multilevel_roi_align, strides=self.strides, **self.roi_align)
        return jax.vmap(align)(self.levels.maps(level), self.boxes)

    def points(
        self,
        level: Level,
        positions: Float[Array, "b r p 2"],
        finer: int = 0,
        through: Through | None = None,
    ) -> Float[Array, "b r p c"]:
        corner, size = self.boxes[..., None, :2], self.boxes[..., None, 2:] - self.boxes[..., None, :2]
        places = jax.lax.stop_gradient(corner) + positions * jax.lax.stop_gradient(size)
        number = jax.vmap(functools.partial(pyramid_level, strides=self.strides))(self.boxes)
        sample = functools.partial(sample_points, strides=self.strides)
        return jax.vmap(sample)(self.levels.maps(level, through), places, jnp.maximum(number - finer, 0))
