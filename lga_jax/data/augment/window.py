"""A window around a random object: the part of a large image that is seen instead of the whole.

The window has the aspect ratio of its image, so it is resized and padded as the image would be.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lga_jax.data.augment.geometry import crop_boxes
from lga_jax.data.source import Record

_MIN_LEFT = 0.5  # share of a box; an object with less than this in the window loses its box, as in copy-paste


class Window(NamedTuple):
    """A rectangle of the stored image, in pixels."""

    y: int
    x: int
    height: int
    width: int


def draw_window(rng: np.random.Generator, record: Record, probability: float, sides: tuple[int, int]) -> Window | None:
    """Draws a window that contains one random object, never a crowd, or a random point of an image without objects.

    None, the whole image, with probability 1 - `probability`, and for images whose short side is not longer than the
    window's. `sides`: the shortest and longest short side of the window, in pixels of the stored image. An object
    larger than this gets a larger window.
    """
    if rng.random() >= probability:
        return None
    hw = np.array([record.height, record.width])
    side = rng.uniform(*sides)
    objects = record.boxes_original[~record.crowd]
    if len(objects):
        box = objects[rng.integers(len(objects))].astype(np.float64)
    else:
        box = np.tile(rng.random(2) * hw[::-1], 2)
    starts, ends = box[[1, 0]], box[[3, 2]]
    share = max(side / hw.min(), *((ends - starts) / hw))
    if share >= 1:
        return None
    size = np.ceil(share * hw).astype(int).tolist()
    axes = zip(starts.tolist(), ends.tolist(), size, hw.tolist(), strict=True)
    return Window(*[_place(rng.random(), *axis) for axis in axes], *size)


def _place(place: float, start: float, end: float, size: int, length: int) -> int:
    """The first pixel of a window of `size` pixels around [start, end] on an axis of `length` pixels."""
    first, last = math.ceil(max(0, end - size)), math.floor(min(start, length - size))
    return first + int(place * (last - first + 1)) if last > first else max(0, min(first, length - size))


def cut_boxes(boxes: Float[np.ndarray, "n 4"], window: Window) -> Float[np.ndarray, "n 4"]:
    """The boxes in pixels of the window, clipped to it; no area if less than half of a box is left."""
    cut = crop_boxes(boxes, (window.y, window.x), (window.height, window.width))
    left, whole = ((some[:, 2:] - some[:, :2]).prod(axis=1) for some in (cut, boxes))
    return np.where((left >= _MIN_LEFT * whole)[:, None], cut, 0)
