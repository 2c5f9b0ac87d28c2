"""Augmentation of one image: resize, crop, flip, colours. Random for training, fixed for evaluation.

Large-scale jitter follows torchvision's detection recipes (`ScaleJitter`, then `FixedSizeCrop`).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict

from lga_jax.data.augment.geometry import (
    crop_boxes,
    fit_hw,
    flip_boxes,
    flip_in_place,
    resize_hw,
    resize_into,
    scale_boxes,
    scaled_hw,
)
from lga_jax.data.augment.photometric import Colour, distort, draw_colour

HW = tuple[int, int]


class View(NamedTuple):
    """The augmentation of one image, in this order: colours, resize, crop if larger than the bucket, flip."""

    resized_hw: HW  # pixels
    crop_yx: tuple[int, int]  # top left corner of the crop, pixels of the resized image
    flip: bool  # left to right
    colour: Colour = Colour()


def draw_view(rng: np.random.Generator, hw: HW, bucket_hw: HW, data_config: ConfigDict) -> View:
    """Draws the augmentation of a training image of height and width `hw` in its bucket."""
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
    return View(resized_hw, crop_yx, flip, draw_colour(rng, data_config.photometric))


def evaluation_view(hw: HW, bucket_hw: HW, data_config: ConfigDict) -> View:
    """The fixed view of evaluation: the whole image, resized."""
    return View(fit_hw(evaluation_hw(hw, data_config), bucket_hw), (0, 0), flip=False)


def content_hw(view: View, bucket_hw: HW) -> HW:
    """Height and width of the image content in the bucket, in pixels."""
    return min(view.resized_hw[0], bucket_hw[0]), min(view.resized_hw[1], bucket_hw[1])


def see_image(out: UInt8[np.ndarray, "h w 3"], image: UInt8[np.ndarray, "h1 w1 3"], view: View, kernel: str) -> None:
    """Augments `image` and writes the result into `out`, whose height and width are `content_hw`."""
    resize_into(out, distort(image, view.colour), view.resized_hw, view.crop_yx, kernel)
    if view.flip:
        flip_in_place(out)


def see_boxes(boxes: Float[np.ndarray, "n 4"], hw: HW, view: View, seen_hw: HW) -> Float[np.ndarray, "n 4"]:
    """The boxes of an image of size `hw` after the augmentation, clipped to `seen_hw`; boxes outside get no area."""
    boxes = crop_boxes(scale_boxes(boxes, np.divide(view.resized_hw, hw)), view.crop_yx, seen_hw)
    return (flip_boxes(boxes, seen_hw[1]) if view.flip else boxes).astype(np.float32)


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
