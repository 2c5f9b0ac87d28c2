"""Bytes of an image file to RGB pixels, bounded in size."""

import io
import os
import stat
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from lga_jax.data.source import UnreadableImageError
from lga_jax.errors import UserError

MAX_PIXELS = 178_956_970  # where Pillow takes a file for an attack: more than half a gigabyte of RGB
MAX_BYTES = 8 * MAX_PIXELS  # of a file: as many pixels of four channels of 16 bits, not compressed

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
_TURNED_BACK = {6: 8, 8: 6}  # the others undo themselves
_SWAPS_SIDES = (5, 6, 7, 8)
# OpenCV turns a TIFF whatever it is told, and of both it lays the colours of what is transparent on black.
_BY_PILLOW = ("TIFF", "GIF")
_PNG_BITS = 24  # the byte of a PNG that tells the bits of a channel
_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_JPEG_MARKER = b"\xff"
_TIFF_WIDTH, _TIFF_LENGTH = 256, 257  # tags


class Header(NamedTuple):
    """What a file says about its pixels."""

    format: str  # Pillow's: "JPEG", "PNG", ...
    stored_hw: tuple[int, int]
    orientation: int  # EXIF's, 1 to 8; 1 is upright, or not told
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


def read_image_file(path: Path | str) -> bytes:
    """Raises UserError for what cannot be read, what is no file (a device may never end), and above MAX_BYTES."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(
                str(path),
                expected="an image file",
                found="no regular file",
                remedy="replace it",
            )
        if status.st_size > MAX_BYTES:
            raise UserError(
                str(path),
                expected=f"at most {MAX_BYTES} bytes",
                found=str(status.st_size),
                remedy="shrink the image",
            )
        with open(path, "rb") as file:
            return file.read(status.st_size)
    except OSError as error:
        raise UserError(
            str(path),
            expected="a readable image file",
            found=str(error.strerror),
            remedy="restore it",
        ) from error


def decode_image(data: bytes, name: str, hw: tuple[int, int] | None = None) -> Decoded:
    """The RGB pixels that Pillow gives, of 16-bit grey the upper eight bits. `name` is what errors call the image.

    `hw` are height and width according to the annotations. They tell on which pixels the boxes were drawn: on those
    stored, as in COCO, or where only they fit, on the image turned upright as EXIF asks. Without `hw`, upright.

    Of a JPEG that breaks off, the part that is there. Raises UnreadableImageError where nothing can be decoded and
    UserError, before decoding, where the header claims more than MAX_PIXELS.
    """
    header = read_header(data, name)
    image, truncated = _decode_by_pillow(data, header) if header.format in _BY_PILLOW else _decode(data), False
    if image is None and data.startswith(_JPEG_START):
        image, truncated = _decode_broken_jpeg(data), True
    if image is None:
        raise UnreadableImageError(
            name,
            expected="an image",
            found=f"{len(data)} bytes that cannot be decoded",
            remedy="replace it",
        )
    if header.orientation in _UPRIGHT and image.shape[:2] != hw:
        image = _UPRIGHT[header.orientation](image)
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


def _decode_broken_jpeg(data: bytes) -> UInt8[np.ndarray, "h w 3"] | None:
    # OpenCV gives up at the end of the data; with an end marker there, the decoder finishes with what it has. Where
    # the data break off within a table between two scans, what is there of the table goes.
    image = _decode(data + _JPEG_END)
    return _decode(data[: data.rfind(_JPEG_MARKER)] + _JPEG_END) if image is None else image


def _decode_by_pillow(data: bytes, header: Header) -> UInt8[np.ndarray, "h w 3"] | None:
    """The pixels as stored."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            if image.mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            pixels = np.array(image.convert("RGB"))
    except Exception:  # of many kinds, from the decoders of a damaged file
        return None
    if header.format == "TIFF" and header.orientation in _UPRIGHT:  # these Pillow turns upright itself
        pixels = _UPRIGHT[_TURNED_BACK.get(header.orientation, header.orientation)](pixels)
    return pixels


def read_header(data: bytes, name: str) -> Header:
    """What stands before the pixels. Raises as decode_image does."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            stored_hw = image.height, image.width
            if image.format == "TIFF":  # its size is the one after the turn, in some versions of Pillow
                stored_hw = image.tag_v2[_TIFF_LENGTH], image.tag_v2[_TIFF_WIDTH]
            deep = image.mode.startswith(("I", "F")) or (image.format == "PNG" and data[_PNG_BITS] == 16)
            return Header(image.format, stored_hw, _orientation(image), image.mode, deep)
    except Image.DecompressionBombError as error:
        raise UserError(
            name,
            expected=f"at most {MAX_PIXELS} pixels",
            found=f"more: {error}",
            remedy="shrink the image",
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise UnreadableImageError(
            name,
            expected="an image",
            found=f"{len(data)} bytes of no known image format",
            remedy="replace it",
        ) from error


def _orientation(image: Image.Image) -> int:
    # Asked for EXIF that is not in front of a PNG, Pillow would decode the whole image to look behind it.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        return int(orientation) if orientation in _UPRIGHT else 1
    except Exception:  # of many kinds, where the tags are damaged; the pixels need not be
        return 1
