"""Draws the regions that the Gaussian masks look at, cut out of the image."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from lga_jax.drawing.canvas import Colour, font
from lga_jax.drawing.pictures import STRIP_COLOUR, class_colours, mask_colour
from lga_jax.drawing.text import drawable_names
from lga_jax.ops.gaussian import CLOSE_UP_REACH

SIDE = 96  # pixels of a close-up with its frame
_FRAME, _GAP, _FONT = 3, 6, 13  # pixels


def draw_close_ups(
    image: UInt8[np.ndarray, "h w 3"], detections: Sequence[Mapping], names: Mapping[int, str], width: int
) -> UInt8[np.ndarray, "h2 {width} 3"]:
    """A sheet of `width` pixels: for each detection its name, its score and the region of each of its masks.

    The regions are framed in the colours of the masks, and the names have the colours of the classes, as in the picture
    of `draw_detections`. The best detection comes first. Detections without Gaussian masks are left out.

    Args:
        detections: COCO results of this image with 'mask_centres' and 'mask_sigmas', in pixels of the image.
        names: class names by category id.
    """
    colours, drawn = class_colours(names), drawable_names(names)
    cells = [
        _cell(
            [close_up(image, detection, mask, SIDE, _FRAME) for mask in range(len(detection["mask_centres"]))],
            f"{drawn[detection['category_id']]} {detection['score']:.2f}",
            colours[detection["category_id"]],
        )
        for detection in sorted(detections, key=lambda detection: -detection["score"])
        if detection.get("mask_centres")
    ]
    return _sheet(cells, width)


def close_up(
    image: UInt8[np.ndarray, "h w 3"], detection: Mapping, mask: int, side: int, frame: int
) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """The region of a mask, mu +- CLOSE_UP_REACH sigma, as a square with a frame in the colour of the mask."""
    centre, sigma = (np.asarray(detection[key][mask]) for key in ("mask_centres", "mask_sigmas"))
    half = CLOSE_UP_REACH * np.maximum(sigma, 0.5)
    square = np.empty((side, side, 3), np.uint8)
    square[:] = mask_colour(mask)
    square[frame:-frame, frame:-frame] = region(image, centre - half, 2 * half, side - 2 * frame)
    return square


def region(
    image: UInt8[np.ndarray, "h w 3"], corner: Float[np.ndarray, "2"], extent: Float[np.ndarray, "2"], side: int
) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """A box of the image, (x, y) and (width, height) in pixels, as a square; black outside."""
    # Only the pixels around the box: OpenCV refuses sides of more than 32,767.
    low = np.clip(np.floor(corner).astype(int) - 3, 0, np.array(image.shape[1::-1]) - 1)
    high = np.maximum(np.ceil(corner + extent).astype(int) + 3, low + 1)
    image, corner = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]]), corner - low
    x, y = side / extent
    # OpenCV counts from the middle of the first pixel, boxes from its corner.
    move = np.array([[x, 0.0, (0.5 - corner[0]) * x - 0.5], [0.0, y, (0.5 - corner[1]) * y - 0.5]])
    return cv2.warpAffine(image, move, (side, side), flags=cv2.INTER_CUBIC)


def _cell(close_ups: Sequence[UInt8[np.ndarray, "s s 3"]], text: str, colour: Colour) -> UInt8[np.ndarray, "h w 3"]:
    """The close-ups side by side, with a text above."""
    row = np.concatenate(close_ups, axis=1)
    line = Image.new("RGB", (row.shape[1], round(1.6 * _FONT)), STRIP_COLOUR)
    ImageDraw.Draw(line).text((0, line.height / 2), text, fill=colour, font=font(_FONT), anchor="lm")
    return np.concatenate([np.asarray(line), row])


def _sheet(cells: Sequence[UInt8[np.ndarray, "h w 3"]], width: int) -> UInt8[np.ndarray, "h2 {width} 3"]:
    """The cells in rows; cells that are wider than the sheet are reduced."""
    cells = [_reduced(cell, max(1, width - 2 * _GAP)) for cell in cells]
    places, x, y, tallest = [], _GAP, _GAP, 0
    for cell in cells:
        if x > _GAP and x + cell.shape[1] > width - _GAP:
            x, y, tallest = _GAP, y + tallest + _GAP, 0
        places.append((x, y))
        x, tallest = x + cell.shape[1] + _GAP, max(tallest, cell.shape[0])
    sheet = np.empty((y + tallest + _GAP if cells else 0, width, 3), np.uint8)
    sheet[:] = STRIP_COLOUR
    for cell, (x, y) in zip(cells, places, strict=True):
        sheet[y : y + cell.shape[0], x : x + cell.shape[1]] = cell[:, : width - x]
    return sheet


def _reduced(cell: UInt8[np.ndarray, "h w 3"], most: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The cell, not wider than `most` pixels."""
    height, width = cell.shape[:2]
    if width <= most:
        return cell
    return cv2.resize(cell, (most, max(1, round(height * most / width))), interpolation=cv2.INTER_AREA)
