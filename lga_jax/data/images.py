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
_PNG_BITS = 24  # the byte of a PNG that tells the bits of a channel
_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"


class Header(NamedTuple):
    """What a file says about its pixels."""

    stored_hw: tuple[int, int]
    orientation: int  # EXIF's; 1 is upright
    mode: str  # Pillow's: "RGB", "L", "CMYK", ...
    deep: bool  # more than 8 bits for a channel

    @property
    def upright_hw(self) -> tuple[int, int]:
        """Height and width after the turn that EXIF asks for."""
        return self.stored_hw[::-1] if self.orientation in _SWAPS_SIDES else self.stored_hw


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
    orientation = read_header(data, name).orientation
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
    return read_header(data, name).upright_hw


def stored_hw(data: bytes, name: str) -> tuple[int, int]:
    """Height and width of the pixels as stored, whatever EXIF says of them. Raises as decode_image does."""
    return read_header(data, name).stored_hw


def _decode(data: bytes) -> UInt8[np.ndarray, "h w 3"] | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS)
    except cv2.error:
        return None


def read_header(data: bytes, name: str) -> Header:
    """What stands before the pixels. Raises as decode_image does."""
    try:
        with Image.open(io.BytesIO(data)) as header:
            # Asked for EXIF that is not in front of a PNG, Pillow would decode the whole image to look behind it.
            exif = header.getexif() if header.format != "PNG" or "exif" in header.info else {}
            deep = header.mode.startswith(("I", "F")) or (header.format == "PNG" and data[_PNG_BITS] == 16)
            return Header((header.height, header.width), exif.get(_ORIENTATION, 1), header.mode, deep)
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{name}: expected at most {MAX_PIXELS} pixels, found more: {error}; shrink the image"
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise UnreadableImageError(
            f"{name}: expected an image, found {len(data)} bytes of no known image format; replace it"
        ) from error
