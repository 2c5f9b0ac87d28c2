"""Geometry of images and their boxes, on the host. Pixels stay uint8: they are normalised on the device."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

# A thread for each image in flight is the loader's to start; OpenCV's own would fight with them for the cores.
cv2.setNumThreads(1)


class View(NamedTuple):
    """How training sees an image this time."""

    short_edge: int  # pixels after resizing, unless the long edge or the bucket bounds it further
    flip: bool  # left to right


def draw_view(rng: np.random.Generator, short_edges: tuple[int, ...], flip_probability: float) -> View:
    """Any of the short edges with the same probability, and a flip."""
    return View(short_edges[rng.integers(len(short_edges))], bool(rng.random() < flip_probability))


def resize_hw(hw: tuple[int, int], short_edge: int, long_edge: int) -> tuple[int, int]:
    """Height and width that bring the short edge to `short_edge`, or less where the long one would pass `long_edge`."""
    return _scaled(hw, min(short_edge / min(hw), long_edge / max(hw)))


def fit_hw(hw: tuple[int, int], bound_hw: tuple[int, int]) -> tuple[int, int]:
    """`hw` as it is where it fits into `bound_hw`, else the largest size of the same shape that does."""
    return _scaled(hw, min(1.0, bound_hw[0] / hw[0], bound_hw[1] / hw[1]))


def _scaled(hw: tuple[int, int], scale: float) -> tuple[int, int]:
    height, width = (max(1, int(side * scale + 0.5)) for side in hw)
    return height, width


def resize(
    image: UInt8[np.ndarray, "h1 w1 3"], hw: tuple[int, int], out: UInt8[np.ndarray, "h w 3"] | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Bilinear, pixel centres at one half. `out`, of height and width `hw`, may be a part of a larger array."""
    return cv2.resize(image, (hw[1], hw[0]), dst=out, interpolation=cv2.INTER_LINEAR)


def flip(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Left to right."""
    return cv2.flip(image, 1)


def flip_boxes(boxes: Float[np.ndarray, "n 4"], width: int) -> Float[np.ndarray, "n 4"]:
    """Where boxes of an image of `width` pixels lie after `flip`."""
    x1, y1, x2, y2 = boxes.T
    return np.stack([width - x2, y1, width - x1, y2], axis=1)


def scale_boxes(boxes: Float[np.ndarray, "n 4"], scale_hw: Float[np.ndarray, "2"]) -> Float[np.ndarray, "n 4"]:
    """Where boxes lie after a resize by `scale_hw` (resized / original, per axis)."""
    return boxes * scale_hw[[1, 0, 1, 0]]
