"""Bytes of an image file to RGB pixels, bounded in size."""

import io
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from lga_jax.data.records import UnreadableImageError
from lga_jax.errors import UserError

MAX_PIXELS = 178_956_970  # where Pillow takes a file for an attack: more than half a gigabyte of RGB

# Which way is up is decided here, and not by the decoder: see decode_image.
_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_ORIENTATION = 0x0112  # EXIF's tag
_UPRIGHT = {  # its values, and what shows such an image as it was seen; 1 is upright
    2: lambda image: cv2.flip(image, 1),
    3: lambda image: cv2.rotate(image, cv2.ROTATE_180),
    4: lambda image: cv2.flip(image, 0),
    5: cv2.transpose,
    6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.flip(cv2.transpose(image), -1),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
_SWAPS_SIDES = (5, 6, 7, 8)
_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"


class Decoded(NamedTuple):
    """Pixels of a file, and whether the file broke off before its end (what is missing is grey)."""

    image: UInt8[np.ndarray, "h w 3"]
    truncated: bool


def decode_image(data: bytes, name: str, hw: tuple[int, int] | None = None) -> Decoded:
    """The RGB pixels that Pillow gives, of 16-bit grey the upper eight bits. `name` is what errors call the image.

    `hw` are height and width according to the annotations. They tell on which pixels the boxes were drawn: on those
    stored, as in COCO, or where only they fit, on the image turned upright as EXIF asks. Without `hw`, upright.

    Of a JPEG that breaks off, the part that is there. Raises UnreadableImageError where nothing can be decoded and
    UserError, before decoding, where the header claims more than MAX_PIXELS.
    """
    orientation = _read_header(data, name)[1]
    image, truncated = _decode(data), False
    if image is None and data.startswith(_JPEG_START):
        # OpenCV gives up at the end of the data; with an end marker there, the decoder finishes with what it has.
        image, truncated = _decode(data + _JPEG_END), True
    if image is None:
        raise UnreadableImageError(
            f"{name}: expected an image, found {len(data)} bytes that cannot be decoded; replace it"
        )
    if orientation in _UPRIGHT and image.shape[:2] != hw:
        image = _UPRIGHT[orientation](image)
    return Decoded(image, truncated)


def upright_hw(data: bytes, name: str) -> tuple[int, int]:
    """Height and width that decode_image will find, from the header. Raises as it does."""
    (height, width), orientation = _read_header(data, name)
    return (width, height) if orientation in _SWAPS_SIDES else (height, width)


def _decode(data: bytes) -> UInt8[np.ndarray, "h w 3"] | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS)
    except cv2.error:
        return None


def _read_header(data: bytes, name: str) -> tuple[tuple[int, int], int]:
    """Height and width as stored, and EXIF's orientation."""
    try:
        with Image.open(io.BytesIO(data)) as header:
            # Asked for EXIF that is not in front of a PNG, Pillow would decode the whole image to look behind it.
            exif = header.getexif() if header.format != "PNG" or "exif" in header.info else {}
            return (header.height, header.width), exif.get(_ORIENTATION, 1)
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{name}: expected at most {MAX_PIXELS} pixels, found more: {error}; shrink the image"
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise UnreadableImageError(
            f"{name}: expected an image, found {len(data)} bytes of no known image format; replace it"
        ) from error
