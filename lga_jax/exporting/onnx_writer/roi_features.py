"""Features of RoIs as ONNX operators.

RoIs are put into the order of their pyramid levels, so that each level crops its own ones: NonZero finds them, and the
concatenation of all levels has a fixed length again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lga_jax.exporting.onnx_writer.graph import Tensor, concat
from lga_jax.models.roi.attention import Level
from lga_jax.ops.roi_align import CANONICAL_LEVEL, CANONICAL_SIZE

Through = Callable[[Tensor], Tensor]


class Levels(NamedTuple):
    """The features that a stage can read, as lga_jax.models.roi.crops.Levels."""

    pyramid: Sequence[Tensor]
    c2: Tensor | None = None

    def maps(self, level: Level, through: Through | None = None) -> list[Tensor]:
        change = through or (lambda features: features)
        if level == "pyramid":
            return [change(features) for features in self.pyramid]
        return _averaged_pyramid(change(self.c2), len(self.pyramid))


class RoIFeatures:
    """Crops of the pyramid and points of any level, as lga_jax.models.roi.attention.RoIFeatures.

    Attributes:
        order: [r], the indices of the boxes that were given, level by level. All results have this order.
        boxes: [r 4], in this order.
    """

    def __init__(self, levels: Levels, boxes: Tensor, strides: Sequence[int], rule: Mapping[str, Any]) -> None:
        """`rule`: the recipe's `roi_align`."""
        self._levels = levels
        self._strides, self._rule = strides, rule
        self.order = concat(self._members(boxes), axis=0).fixed(boxes.shape[0])
        self.boxes = boxes.gather(self.order)

    def crops(self) -> Tensor:
        """RoIAlign of the pyramid: [r c s s]."""
        size, maps = self._rule["crop_size"], self._levels.pyramid
        # Corners of boxes need float32, and RoiAlign has one type for boxes and features.
        crops = [
            _roi_align(x.cast(np.float32), self.boxes.gather(index), index * 0, 1.0 / stride, self._rule)
            for x, stride, index in zip(maps, self._strides, self._members(self.boxes), strict=True)
        ]
        return concat(crops, axis=0).fixed(self.boxes.shape[0], maps[0].shape[1], size, size).cast(maps[0].dtype)

    def points(
        self,
        level: Level,
        positions: Tensor,
        finer: int = 0,
        through: Through | None = None,
    ) -> Tensor:
        """The features [r c p] at positions [r p 2] in every RoI, from (0, 0), its first corner, to (1, 1).

        `finer` and `through` as in lga_jax.models.roi.attention.RoIFeatures.
        """
        maps = self._levels.maps(level, through)
        dtype, maps = maps[0].dtype, [x.cast(np.float32) for x in maps]
        count, channels = self.boxes.shape[0], maps[0].shape[1]
        corner = self.boxes.slice(1, 0, 2)
        size = self.boxes.slice(1, 2, 4) - corner
        places = corner.reshape(count, 1, 2) + positions * size.reshape(count, 1, 2)
        parts = []
        for number, index in enumerate(self._members(self.boxes)):
            read = max(number - finer, 0)
            x, stride = maps[read], self._strides[read]
            sides = np.asarray(x.shape[:1:-1], np.float32) * stride  # width, height
            grid = places.gather(index) * (2.0 / sides) - 1.0
            grid = grid.apply("Unsqueeze", x.graph.constant([0], np.int64), shape=(1, *grid.shape))
            shape = (1, channels, *grid.shape[1:3])
            sampled = x.apply("GridSample", grid, shape=shape, padding_mode="border", align_corners=0)  # bilinear
            parts.append(sampled.transpose(0, 2, 1, 3))
        return concat(parts, axis=1).fixed(count, channels, positions.shape[1]).cast(dtype)

    def _members(self, boxes: Tensor) -> list[Tensor]:
        """The indices [n] of the boxes of each level."""
        levels = _levels(boxes, self._strides)
        axis = boxes.graph.constant([0], np.int64)
        found = [
            boxes.graph.node("NonZero", [levels.equals(level)], [((1, None), np.int64)])[0]
            for level in range(len(self._strides))
        ]
        return [members.apply("Squeeze", axis, shape=(None,)) for members in found]


def _levels(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """The number of the level of each box [r], as lga_jax.ops.roi_align.pyramid_level, but from squared sides."""
    size = (boxes.slice(1, 2, 4) - boxes.slice(1, 0, 2)).maximum(0.0)
    area = (size.slice(1, 0, 1) * size.slice(1, 1, 2)).reshape(-1)
    level = (area * 0.0).cast(np.int64)
    for stride in strides[1:]:
        least = CANONICAL_SIZE * 2.0 ** (stride.bit_length() - 1 - CANONICAL_LEVEL - 1e-6)
        level = level + (area >= least**2).cast(np.int64)
    return level


def _averaged_pyramid(c2: Tensor, count: int) -> list[Tensor]:
    """`lga_jax.models.fpn.averaged_pyramid`. The last row or column of an odd side is averaged alone."""
    maps = [c2]
    for _ in range(count - 1):
        batch, channels, height, width = maps[-1].shape
        averaged = maps[-1].apply(
            "AveragePool",
            shape=(batch, channels, -(-height // 2), -(-width // 2)),
            kernel_shape=[2, 2],
            strides=[2, 2],
            pads=[0, 0, height % 2, width % 2],
            count_include_pad=0,
        )
        maps.append(averaged)
    return maps


def _roi_align(x: Tensor, boxes: Tensor, batch: Tensor, scale: float, rule: Mapping[str, Any]) -> Tensor:
    size = rule["crop_size"]
    return x.apply(
        "RoiAlign",
        boxes,
        batch,
        shape=(None, x.shape[1], size, size),
        mode="avg",
        output_height=size,
        output_width=size,
        sampling_ratio=rule["sampling_ratio"],
        spatial_scale=scale,
        coordinate_transformation_mode="half_pixel" if rule["aligned"] else "output_half_pixel",
    )
