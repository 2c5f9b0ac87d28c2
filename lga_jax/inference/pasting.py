"""Places predicted masks in the image."""

import numpy as np
from jaxtyping import Float

from lga_jax.data.object_masks import HW, Bitmap

_THRESHOLD = 0.5  # least probability of a pixel of the object
_PIXELS_AT_ONCE = 2**20  # computed at a time; larger boxes need no more memory for probabilities


def paste(mask: Float[np.ndarray, "p p"], box: Float[np.ndarray, "4"], hw: HW) -> Bitmap:
    """The pixels of an object in an image of size `hw`.

    The probability of a pixel is that of its centre, bilinear between the centres of the cells and 0 beyond them
    (Detectron2's `paste_masks_in_image`; torchvision's first rounds the box to whole pixels).

    mask: probabilities of the cells of the box. box: (x1, y1, x2, y2) in pixels.
    """
    left, top = np.clip(np.floor(box[:2]), 0, hw[::-1]).astype(int).tolist()
    right, bottom = np.clip(np.ceil(box[2:]), 0, hw[::-1]).astype(int).tolist()
    x1, y1, x2, y2 = box.tolist()
    rows = _weights(np.arange(top, bottom) + 0.5, y1, y2, len(mask))
    columns = _weights(np.arange(left, right) + 0.5, x1, x2, len(mask))
    pixels = np.zeros((len(rows), len(columns)), bool)
    at_once = max(1, _PIXELS_AT_ONCE // max(1, len(columns)))
    for start in range(0, len(rows), at_once):
        part = slice(start, start + at_once)
        pixels[part] = rows[part] @ mask.astype(np.float32) @ columns.T >= _THRESHOLD
    return Bitmap(pixels, (left, top))


def _weights(centres: Float[np.ndarray, "n"], start: float, end: float, cells: int) -> Float[np.ndarray, "n p"]:
    """The weight of each cell between start and end at the centre of each pixel."""
    places = (centres - start) * (cells / max(end - start, 1e-9)) - 0.5
    return np.maximum(1 - np.abs(places[:, None] - np.arange(cells)), 0).astype(np.float32)
