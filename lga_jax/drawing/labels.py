"""Text labels of boxes on coloured plates, placed with little overlap."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw

from lga_jax.drawing.canvas import Canvas, Colour, corners, draw_box, draw_dashed_box, font, tint_pixels

_TILE_LINE, _TILE_FONT = 2, 12  # pixels
_DASH = 2  # line widths
_TINT = 0.4  # opacity of an object mask
_GREY = 128


class Label(NamedTuple):
    """A box and its text label, `drawable` for a name from a file."""

    bbox: Sequence[float | int]  # (x, y, width, height) in pixels of the image
    text: str
    colour: Colour
    dashed: bool = False  # dashed box; only `draw_tile` draws boxes and masks
    mask: Bool[np.ndarray, "h w"] | None = None  # the pixels of the object in the image


def draw_labels(canvas: Canvas, labels: Iterable[Label]) -> UInt8[np.ndarray, "h w 3"]:
    """Draws a text plate at each box and returns the pixels. The first label is placed first and drawn last, above."""
    labels, plates = list(labels), []
    for label in labels:
        plates.append(_place_plate(canvas, label.bbox, label.text, plates))
    for plate, label in zip(reversed(plates), reversed(labels), strict=True):
        _draw_plate(canvas, plate, label)
    return canvas.pixels


def draw_tile(image: UInt8[np.ndarray, "h w 3"], labels: Sequence[Label], edge: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The image with masks, boxes and labels, resized to a long edge of `edge` pixels. Empty texts get no plate."""
    scale = edge / max(image.shape[:2])
    width, height = (max(1, round(side * scale)) for side in image.shape[1::-1])
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    canvas = Canvas(resized, 1, _TILE_LINE, font(_TILE_FONT))
    scaled = [label._replace(bbox=[length * scale for length in label.bbox]) for label in labels]
    for label in scaled:
        if label.mask is not None:
            shrunk = cv2.resize(label.mask.view(np.uint8) * 255, (width, height), interpolation=cv2.INTER_AREA)
            tint_pixels(canvas, shrunk > 127, label.colour, _TINT)
    for label in scaled:
        if label.dashed:
            draw_dashed_box(canvas, label.bbox, label.colour, _DASH)
        else:
            draw_box(canvas, label.bbox, label.colour)
    return draw_labels(canvas, [label for label in scaled if label.text])


def draw_unreadable(hw: tuple[int, int], edge: int) -> UInt8[np.ndarray, "h w 3"]:
    """A grey placeholder for an unreadable image of size `hw`, with a long edge of `edge` pixels."""
    height, width = (max(1, round(side * edge / max(hw))) for side in hw)
    picture = Image.new("RGB", (width, height), (_GREY,) * 3)
    pen = ImageDraw.Draw(picture)
    pen.text((width / 2, height / 2), "cannot be read", fill="white", font=font(edge // 16), anchor="mm")
    return np.asarray(picture)


def _place_plate(
    canvas: Canvas, bbox: Sequence[float | int], text: str, plates: Sequence[Float[np.ndarray, "4"]]
) -> Float[np.ndarray, "4"]:
    """Chooses the place with least overlap: above the box, below it, or inside at its top or bottom."""
    size = np.array([canvas.font.getlength(text) + canvas.font.size * 0.7, canvas.font.size * 1.45])
    (x1, y1), (x2, y2) = corners(bbox) * canvas.scale
    rows = (y1 - size[1] - canvas.line, y2 + canvas.line, y1 + canvas.line, y2 - size[1] - canvas.line)
    corner = [np.array([x, y]) for y in rows for x in (x1 - canvas.line, x2 + canvas.line - size[0])]
    limit = np.array(canvas.pixels.shape[1::-1]) - size
    places = [np.clip(place, 0, np.maximum(limit, 0)) for place in corner if 0 <= place[1] <= limit[1]] or [
        np.clip(corner[0], 0, np.maximum(limit, 0))
    ]
    return min((np.concatenate([place, place + size]) for place in places), key=lambda plate: _covered(plate, plates))


def _draw_plate(canvas: Canvas, plate: Float[np.ndarray, "4"], label: Label) -> None:
    """Draws one plate. Pillow gets the pixels around it: to convert all of them takes longer than all the rest."""
    room = canvas.font.size  # some letters reach out of the plate
    left, top = (max(0, math.floor(low) - room) for low in plate[:2])
    right, bottom = (math.ceil(high) + room for high in plate[2:])
    near = canvas.pixels[top:bottom, left:right]
    picture = Image.fromarray(near)
    pen = ImageDraw.Draw(picture)
    moved = plate - (left, top, left, top)
    pen.rounded_rectangle(moved.tolist(), radius=canvas.line + 1, fill=label.colour)
    centre = tuple((moved[:2] + moved[2:]) / 2)
    pen.text(centre, label.text, fill=_ink(label.colour), font=canvas.font, anchor="mm")
    near[:] = np.asarray(picture)


def _covered(plate: Float[np.ndarray, "4"], plates: Sequence[Float[np.ndarray, "4"]]) -> float:
    """Overlap area of `plate` with the other plates."""
    overlaps = [np.minimum(plate[2:], other[2:]) - np.maximum(plate[:2], other[:2]) for other in plates]
    return float(sum(np.maximum(overlap, 0).prod() for overlap in overlaps))


def _ink(plate: Colour) -> Colour:
    """Black on bright plates, white on dark ones, by luminance."""
    return (0, 0, 0) if np.dot(plate, (0.299, 0.587, 0.114)) > 110 else (255, 255, 255)
