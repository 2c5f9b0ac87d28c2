"""Anti-aliased drawing in image coordinates, on an enlarged copy with readable lines and text."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import ImageFont

from lga_jax.drawing.text import FONT_FILE

Colour = tuple[int, int, int]  # RGB, 0..255

_TARGET_EDGE = 640  # pixels; smaller short edges are enlarged towards it, by at most _MAX_ENLARGEMENT
_MAX_ENLARGEMENT = 4
_SUBPIXEL_BITS = 4  # fractional bits of OpenCV's fixed-point coordinates
_RIM: Colour = (16, 16, 16)  # dark outline of lines and dots, visible on bright images


class Canvas(NamedTuple):
    """The enlarged image to draw on, with line width and font for its size."""

    pixels: UInt8[np.ndarray, "h w 3"]
    scale: int  # canvas pixels per image pixel
    line: int  # line width of a box, pixels
    font: ImageFont.FreeTypeFont


def make_canvas(image: UInt8[np.ndarray, "h w 3"]) -> Canvas:
    """A copy of the image; small images are enlarged by an integer factor."""
    height, width = image.shape[:2]
    scale = min(max(1, round(_TARGET_EDGE / min(height, width))), _MAX_ENLARGEMENT)
    pixels = cv2.resize(image, (width * scale, height * scale), interpolation=cv2.INTER_CUBIC)
    edge = min(pixels.shape[:2])
    return Canvas(pixels, scale, max(1, round(edge / 280)), font(max(11, round(edge / 40))))


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Bold sans serif; `drawable` replaces characters that it does not have."""
    return ImageFont.truetype(FONT_FILE, size)


def corners(bbox: Sequence[float | int]) -> Float[np.ndarray, "2 2"]:
    """Converts (x, y, width, height) to ((x1, y1), (x2, y2))."""
    x, y, width, height = bbox
    return np.array([[x, y], [x + width, y + height]], np.float64)


def draw_box(canvas: Canvas, bbox: Sequence[float | int], colour: Colour) -> None:
    """Draws the outline of a box (x, y, width, height)."""
    ends = _on_canvas(canvas, corners(bbox))
    for thickness, shade in ((canvas.line + 2, _RIM), (canvas.line, colour)):
        cv2.rectangle(canvas.pixels, *ends, shade, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def draw_dashed_box(canvas: Canvas, bbox: Sequence[float | int], colour: Colour, dash: float) -> None:
    """Draws a dashed box, with dark gaps that are visible on bright images.

    `dash`: length of a dash and of a gap, in line widths.
    """
    draw_box(canvas, bbox, _RIM)
    (left, top), (right, bottom) = corners(bbox)
    ring = np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]])
    for start, end in pairwise(ring):
        length = np.linalg.norm(end - start) * canvas.scale / (dash * (canvas.line + 1))  # in dashes
        cuts = np.linspace(0, 1, 2 * max(1, round(length / 2)) + 1)[:, None]
        places = _on_canvas(canvas, start + cuts * (end - start))
        for first, last in zip(places[0:-1:2], places[1::2], strict=True):
            cv2.line(canvas.pixels, first, last, colour, canvas.line, cv2.LINE_AA, _SUBPIXEL_BITS)


def tint_pixels(canvas: Canvas, mask: Bool[np.ndarray, "h w"], colour: Colour, opacity: float) -> None:
    """Tints the pixels of an object and draws its outline. `mask`: of the image, before it is enlarged."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return
    (top, bottom), (left, right) = ((int(ends[0]), int(ends[-1]) + 1) for ends in (rows, columns))
    part = tuple(slice(low * canvas.scale, high * canvas.scale) for low, high in ((top, bottom), (left, right)))
    pixels = canvas.pixels[part]
    size = pixels.shape[1::-1]
    inside = cv2.resize(mask[top:bottom, left:right].view(np.uint8) * 255, size, interpolation=cv2.INTER_LINEAR) > 127
    pixels[inside] = (1 - opacity) * pixels[inside] + opacity * np.array(colour)
    outlines, _ = cv2.findContours(inside.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for thickness, shade in ((canvas.line + 1, _RIM), (max(1, canvas.line - 1), colour)):
        cv2.drawContours(pixels, outlines, -1, shade, thickness, cv2.LINE_AA)


def tint_ellipse(
    canvas: Canvas, centre: Sequence[float], radii: Sequence[float], colour: Colour, opacity: float
) -> None:
    """Draws a filled, translucent ellipse. Only the pixels around it are touched: most ellipses are small."""
    reach, limits = np.add(radii, 1), canvas.pixels.shape[1::-1]
    left, top = np.clip(np.floor((centre - reach) * canvas.scale), 0, limits).astype(int).tolist()
    right, bottom = np.clip(np.ceil((centre + reach) * canvas.scale), 0, limits).astype(int).tolist()
    if left >= right or top >= bottom:
        return
    before = canvas.pixels[top:bottom, left:right]
    tinted = before.copy()
    moved = np.subtract(centre, (left / canvas.scale, top / canvas.scale)).tolist()
    _ellipse(canvas._replace(pixels=tinted), moved, radii, colour, cv2.FILLED)
    before[:] = cv2.addWeighted(tinted, opacity, before, 1 - opacity, 0)


def draw_ellipse(canvas: Canvas, centre: Sequence[float], radii: Sequence[float], colour: Colour) -> None:
    """Draws the outline of an ellipse with a thinner line than a box."""
    _ellipse(canvas, centre, radii, colour, max(1, canvas.line - 1))


def draw_dot(canvas: Canvas, centre: Sequence[float], colour: Colour, room: float) -> None:
    """Draws a dot with a dark outline. `room`: short edge of the object, pixels; small objects get smaller dots."""
    (place,) = _on_canvas(canvas, np.array([centre], np.float64))
    radius = min(1.5 * canvas.line + 1, max(1.5, 0.07 * room * canvas.scale))
    for size, shade in ((radius + 0.4 * canvas.line, _RIM), (radius, colour)):
        cv2.circle(
            canvas.pixels, place, round(size * 2**_SUBPIXEL_BITS), shade, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS
        )


def _ellipse(canvas: Canvas, centre: Sequence[float], radii: Sequence[float], colour: Colour, thickness: int) -> None:
    (place,) = _on_canvas(canvas, np.array([centre], np.float64))
    axes = [max(1, round(radius * canvas.scale * 2**_SUBPIXEL_BITS)) for radius in radii]
    cv2.ellipse(canvas.pixels, place, axes, 0, 0, 360, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def _on_canvas(canvas: Canvas, points: Float[np.ndarray, "n 2"]) -> list[tuple[int, int]]:
    """Converts to OpenCV's fixed-point coordinates, in which integers are pixel centres."""
    places = np.round((points * canvas.scale - 0.5) * 2**_SUBPIXEL_BITS).astype(int)
    return [(int(x), int(y)) for x, y in places]
