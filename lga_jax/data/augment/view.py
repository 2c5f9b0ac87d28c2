"""Augmentation of one image: what is seen of it, and how. Random for training, fixed for evaluation.

Large-scale jitter follows torchvision's detection recipes (`ScaleJitter`, then `FixedSizeCrop`).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict

from lga_jax.data.augment.degradation import blur_in_place, compress_in_place, draw_blur, draw_quality
from lga_jax.data.augment.geometry import (
    crop_boxes,
    fit_hw,
    flip_boxes,
    flip_in_place,
    resize_hw,
    resize_into,
    scale_boxes,
    scaled_hw,
    turn_boxes,
)
from lga_jax.data.augment.photometric import Colour, distort, draw_colour
from lga_jax.data.augment.window import Window, cut_boxes, draw_window
from lga_jax.data.object_masks import AS_STORED, Placement
from lga_jax.data.source import Record

HW = tuple[int, int]


class View(NamedTuple):
    """The augmentation of one image.

    In this order: window, colours, quarter turns, resize, crop if larger than the bucket, flip, blur, JPEG. Defaults
    change nothing.
    """

    resized_hw: HW  # pixels
    crop_yx: tuple[int, int]  # top left corner of the crop, pixels of the resized image
    flip: bool  # left to right
    colour: Colour = Colour()
    window: Window | None = None  # the part that is seen; None: the whole image
    turns: int = 0  # quarter turns to the left
    blur: float = 0.0  # sigma of a Gaussian, pixels of the resized image
    quality: int = 0  # of JPEG; 0: no compression

    def source_hw(self, hw: HW) -> HW:
        """Height and width of what is resized, for a stored image of size `hw`: its window, turned."""
        height, width = hw if self.window is None else self.window[2:]
        return (width, height) if self.turns % 2 else (height, width)


def draw_view(rng: np.random.Generator, record: Record, bucket_hw: HW, data_config: ConfigDict) -> View:
    """Draws the augmentation of a training image in its bucket.

    Keys that are 0 draw no random numbers, so the other numbers do not depend on them.
    """
    window, turns = None, 0
    if data_config.object_crop:
        window = draw_window(rng, record, data_config.object_crop, data_config.object_crop_sides)
    if data_config.quarter_turns and rng.random() < data_config.quarter_turns:
        turns = int(rng.integers(1, 4))
    part = View((0, 0), (0, 0), flip=False, window=window, turns=turns)
    hw = part.source_hw((record.height, record.width))
    if data_config.scale_jitter:
        factor, place = rng.uniform(*data_config.scale_jitter), rng.random()
        resized_hw = scaled_hw(hw, factor * _fitting_scale(hw, bucket_hw), data_config.size_rounding)
        # One random number places the crop on both axes, as in torchvision.
        crop_yx = _place(resized_hw[0], bucket_hw[0], place), _place(resized_hw[1], bucket_hw[1], place)
    else:
        short_edge = data_config.short_edges[rng.integers(len(data_config.short_edges))]
        resized_hw = fit_hw(_edges_hw(hw, short_edge, data_config), bucket_hw)
        crop_yx = (0, 0)
    flip = bool(rng.random() < data_config.flip_probability)
    colour = draw_colour(rng, data_config.photometric)
    blur = draw_blur(rng, data_config.blur) if data_config.blur else 0.0
    quality = draw_quality(rng, data_config.jpeg) if data_config.jpeg else 0
    return View(resized_hw, crop_yx, flip, colour, window, turns, blur, quality)


def evaluation_view(hw: HW, bucket_hw: HW, data_config: ConfigDict) -> View:
    """The fixed view of evaluation: the whole image, resized."""
    return View(fit_hw(evaluation_hw(hw, data_config), bucket_hw), (0, 0), flip=False)


def content_hw(view: View, bucket_hw: HW) -> HW:
    """Height and width of the image content in the bucket, in pixels."""
    return min(view.resized_hw[0], bucket_hw[0]), min(view.resized_hw[1], bucket_hw[1])


def see_image(out: UInt8[np.ndarray, "h w 3"], image: UInt8[np.ndarray, "h1 w1 3"], view: View, kernel: str) -> None:
    """Augments `image` and writes the result into `out`, whose height and width are `content_hw`."""
    if view.window is not None:
        y, x, height, width = view.window
        image = image[y : y + height, x : x + width]
    image = distort(image, view.colour)
    if view.turns:
        image = np.ascontiguousarray(np.rot90(image, view.turns))
    resize_into(out, image, view.resized_hw, view.crop_yx, kernel)
    if view.flip:
        flip_in_place(out)
    if view.blur:
        blur_in_place(out, view.blur)
    if view.quality:
        compress_in_place(out, view.quality)


def see_boxes(boxes: Float[np.ndarray, "n 4"], hw: HW, view: View, seen_hw: HW) -> Float[np.ndarray, "n 4"]:
    """The boxes of an image of size `hw` after the augmentation, clipped to `seen_hw`; boxes outside get no area."""
    if view.window is not None:
        boxes, hw = cut_boxes(boxes, view.window), view.window[2:]
    boxes = turn_boxes(boxes, hw, view.turns)
    scale_hw = np.divide(view.resized_hw, view.source_hw(hw))
    boxes = crop_boxes(scale_boxes(boxes, scale_hw), view.crop_yx, seen_hw)
    return (flip_boxes(boxes, seen_hw[1]) if view.flip else boxes).astype(np.float32)


def see_points(hw: HW, view: View, seen_hw: HW) -> Placement:
    """Where the points of an image of size `hw` are after the augmentation; object masks are drawn with it."""
    placement = AS_STORED
    if view.window is not None:
        y, x, *hw = view.window
        placement = placement.then(offset=(-x, -y))
    for _ in range(view.turns % 4):  # to the left: x becomes y from below
        placement, hw = placement.then(((0, 1), (-1, 0)), (0, hw[1])), hw[::-1]
    y_scale, x_scale = np.divide(view.resized_hw, hw).tolist()
    placement = placement.then(((x_scale, 0), (0, y_scale)), (-view.crop_yx[1], -view.crop_yx[0]))
    return placement.then(((-1, 0), (0, 1)), (seen_hw[1], 0)) if view.flip else placement


def training_hw(hw: HW, data_config: ConfigDict) -> HW:
    """The largest size of a training image. It decides the bucket, because smaller sizes fit as well."""
    if data_config.scale_jitter:
        # No bucket is larger than this edge, so the chosen bucket is the one that shows the image largest.
        edge = max(map(max, data_config.buckets))
        return resize_hw(hw, edge, edge, data_config.size_rounding)
    return _edges_hw(hw, max(data_config.short_edges), data_config)


def evaluation_hw(hw: HW, data_config: ConfigDict) -> HW:
    """The size of an image in evaluation; a smaller bucket reduces it further."""
    return _edges_hw(hw, data_config.eval_short_edge, data_config)


def _edges_hw(hw: HW, short_edge: int, data_config: ConfigDict) -> HW:
    return resize_hw(hw, short_edge, data_config.long_edge, data_config.size_rounding)


def _fitting_scale(hw: HW, bucket_hw: HW) -> float:
    return min(bucket_hw[0] / hw[0], bucket_hw[1] / hw[1])


def _place(size: int, bound: int, place: float) -> int:
    """Offset of a crop of `bound` pixels in `size` pixels, an integer; `place` in [0, 1) chooses among all."""
    return int(place * (max(size - bound, 0) + 1))
