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

# Boxes are drawn on the pixels as stored, so a rotation that EXIF asks for would move the image away from them.
_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"


class Decoded(NamedTuple):
    """Pixels of a file, and whether the file broke off before its end (what is missing is grey)."""

    image: UInt8[np.ndarray, "h w 3"]
    truncated: bool


def decode_image(data: bytes, name: str) -> Decoded:
    """RGB pixels as stored (EXIF's rotation is not applied). `name` is what errors call the image.

    Of a JPEG that breaks off, the part that is there. Raises UnreadableImageError where nothing can be decoded and
    UserError, before decoding, where the header claims more than MAX_PIXELS.
    """
    _check_size(data, name)
    image = _decode(data)
    if image is not None:
        return Decoded(image, truncated=False)
    # OpenCV gives up at the end of the data; with an end marker there, the decoder finishes with what it has.
    image = _decode(data + _JPEG_END) if data.startswith(_JPEG_START) else None
    if image is None:
        raise UnreadableImageError(
            f"{name}: expected an image, found {len(data)} bytes that cannot be decoded; replace it"
        )
    return Decoded(image, truncated=True)


def _decode(data: bytes) -> UInt8[np.ndarray, "h w 3"] | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS)
    except cv2.error:
        return None


def _check_size(data: bytes, name: str) -> None:
    try:
        Image.open(io.BytesIO(data)).close()  # reads the header only
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{name}: expected at most {MAX_PIXELS} pixels, found more: {error}; shrink the image"
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise UnreadableImageError(
            f"{name}: expected an image, found {len(data)} bytes of no known image format; replace it"
        ) from error
