"""Decodes image files to RGB pixels, with limits on size."""

import io
import logging
import os
import stat
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from lga_jax.data.content import OtherContent, recognise_content
from lga_jax.data.depth import EightBits, to_eight_bits
from lga_jax.data.source import UnreadableImageError
from lga_jax.data.tiff import LENGTH, WIDTH, describe_tiff, num_bits, tiff_pixels
from lga_jax.errors import UserError, counted, printable

_LOG = logging.getLogger(__name__)

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it prints each damaged file; here it is counted

MAX_PIXELS = 178_956_970  # Pillow's limit for decompression bombs: more than half a gigabyte of RGB
MAX_BYTES = 8 * MAX_PIXELS  # file size of MAX_PIXELS uncompressed pixels with four channels of 16 bits

# decode_image applies the EXIF orientation, not the decoder.
_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {  # EXIF value: the transformation that makes the image upright; 1 is upright
    2: lambda image: cv2.flip(image, 1),
    3: lambda image: cv2.rotate(image, cv2.ROTATE_180),
    4: lambda image: cv2.flip(image, 0),
    5: cv2.transpose,
    6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.flip(cv2.transpose(image), -1),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
_TURNED_BACK = {6: 8, 8: 6}  # all others are their own inverse
_SWAPS_SIDES = (5, 6, 7, 8)
# OpenCV always applies the orientation of a TIFF, and blends transparent pixels of both formats with black.
_BY_PILLOW = ("TIFF", "GIF")
_PNG_BITS = 24  # position of the bit depth in a PNG file
_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_JPEG_MARKER = b"\xff"
# Pillow knows many more formats; some start other programs. It may lack AVIF.
Image.init()
_FORMATS = [name for name in ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "AVIF", "GIF", "PPM") if name in Image.OPEN]


class Header(NamedTuple):
    """The properties of an image file that are known before decoding."""

    format: str  # Pillow's: "JPEG", "PNG", ...
    stored_hw: tuple[int, int]
    orientation: int  # EXIF's, 1 to 8; 1 is upright, also if the file has none
    mode: str  # Pillow's: "RGB", "L", "CMYK", ...
    deep: bool  # more than 8 bits per channel

    @property
    def upright_hw(self) -> tuple[int, int]:
        """Height and width after applying the EXIF orientation."""
        return self.stored_hw[::-1] if self.orientation in _SWAPS_SIDES else self.stored_hw


class Decoded(NamedTuple):
    """Decoded pixels."""

    image: UInt8[np.ndarray, "h w 3"]
    truncated: bool  # the file ends too early; missing pixels are grey
    values: str = ""  # the values before the conversion to eight bits, as "12 bits"; "" for eight bits


def read_image_file(path: Path | str) -> bytes:
    """Reads a file. Raises UserError if it is unreadable, larger than MAX_BYTES, or not a regular file.

    A device or pipe could be read without end.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(
                str(path),
                expected="an image file",
                found="a folder, device or pipe",
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
            remedy="restore it, or correct the path",
        ) from error


def decode_image(data: bytes, name: str, hw: tuple[int, int] | None = None) -> Decoded:
    """Decodes an image to the RGB pixels of Pillow; `to_eight_bits` converts more than eight bits per channel.

    Args:
        data: the bytes of the file.
        name: the subject of errors.
        hw: height and width in the annotations. They decide whether the EXIF orientation is applied: not if the stored
            pixels have this size, as in COCO, otherwise it is. With None it is applied.

    A truncated JPEG gives the pixels before its end. Raises UnreadableImageError if no pixel can be decoded, and
    UserError before decoding if the header declares more than MAX_PIXELS.
    """
    header = read_header(data, name)
    decoded, truncated = _decode_by(header, data, name), False
    if decoded is None and data.startswith(_JPEG_START):
        decoded, truncated = _decode_broken_jpeg(data), True
    if decoded is None:
        found = f"{len(data):,} bytes of a damaged {header.format} file"
        raise UnreadableImageError(name, expected="an image", found=found, remedy="replace it")
    image, values = decoded
    if header.orientation in _UPRIGHT and image.shape[:2] != hw:
        image = _UPRIGHT[header.orientation](image)
    return Decoded(image, truncated, values)


class AnnotatedImages:
    """Decodes the images of one source. Their size must be the annotated one; a warning names each truncated file."""

    def __init__(self, annotations: str, remedy: str) -> None:
        """`annotations`: where the sizes stand. `remedy`: how to correct a wrong one."""
        self._annotations, self._remedy = annotations, remedy
        self._truncated: set[str] = set()

    def decode(self, data: bytes, name: str, hw: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels of a file with the annotated size `hw`. Raises the errors of decode_image, or for another size."""
        image, truncated, _ = decode_image(data, name, hw)
        if image.shape[:2] != hw:
            raise UserError(
                name,
                expected=f"{hw[1]} x {hw[0]} pixels as in {self._annotations}",
                found=f"{image.shape[1]} x {image.shape[0]}",
                remedy=self._remedy,
            )
        if truncated and name not in self._truncated:
            self._truncated.add(name)
            so_far = len(self._truncated)
            _LOG.warning("%s: truncated, the missing part is grey (%d such files so far)", printable(name), so_far)
        return image


def is_image(path: Path | str) -> bool:
    """Whether a file starts like an image of a format that decode_image reads, whatever its name."""
    try:
        with Image.open(path, formats=_FORMATS):
            return True
    except Image.DecompressionBombError:
        return True  # an image, but too large
    except MemoryError:
        raise
    except Exception:  # decoders raise many types
        return False


def upright_hw(data: bytes, name: str) -> tuple[int, int]:
    """Height and width of the upright image, from the header. Raises the errors of decode_image."""
    return read_header(data, name).upright_hw


def stored_hw(data: bytes, name: str) -> tuple[int, int]:
    """Height and width of the stored pixels, without the EXIF orientation. Raises the errors of decode_image."""
    return read_header(data, name).stored_hw


def _decode_by(header: Header, data: bytes, name: str) -> EightBits | None:
    """The stored pixels, without the EXIF orientation; None for damaged files."""
    if header.format in _BY_PILLOW:
        return _decode_by_pillow(data, header, name)
    if not header.deep:
        return _decode(data)
    deep = _decode(data, _FLAGS | cv2.IMREAD_ANYDEPTH)
    return deep and to_eight_bits(deep.pixels, name)


def _decode(data: bytes, flags: int = _FLAGS) -> EightBits | None:
    """RGB pixels of eight bits, or with IMREAD_ANYDEPTH of the type in the file."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except MemoryError:
        raise
    except Exception as error:  # cv2.error, and others for damaged files
        if getattr(error, "code", None) == cv2.Error.StsNoMem:
            raise MemoryError(str(error)) from error
        return None
    return None if pixels is None else EightBits(pixels, "")


def _decode_broken_jpeg(data: bytes) -> EightBits | None:
    # OpenCV fails at the end of the data. With an end marker the decoder returns the pixels so far. If the data end
    # inside a table between two scans, the incomplete table is removed.
    image = _decode(data + _JPEG_END)
    return _decode(data[: data.rfind(_JPEG_MARKER)] + _JPEG_END) if image is None else image


def _decode_by_pillow(data: bytes, header: Header, name: str) -> EightBits | None:
    try:
        with Image.open(io.BytesIO(data), formats=_BY_PILLOW) as image:
            pixels = tiff_pixels(image, data, name) if image.format == "TIFF" else np.asarray(image.convert("RGB"))
    except (MemoryError, UnreadableImageError):
        raise
    except Exception:  # decoders raise many types for damaged files
        return None
    pixels, values = to_eight_bits(pixels, name)
    if pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    if header.format == "TIFF" and header.orientation in _UPRIGHT:
        # Pillow has applied the orientation of a TIFF; undo it
        pixels = _UPRIGHT[_TURNED_BACK.get(header.orientation, header.orientation)](pixels)
    return EightBits(pixels, values)


def read_header(data: bytes, name: str) -> Header:
    """Reads the header of an image file. Raises the errors of decode_image."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            stored_hw = image.height, image.width
            deep = image.mode.startswith(("I", "F")) or (image.format == "PNG" and data[_PNG_BITS] == 16)
            if image.format == "TIFF":  # some versions of Pillow give its size after the orientation
                stored_hw = image.tag_v2[LENGTH], image.tag_v2[WIDTH]
                deep = num_bits(image) > 8
            return Header(image.format, stored_hw, _orientation(image), image.mode, deep)
    except Image.DecompressionBombError as error:
        raise UserError(
            name,
            expected=f"at most {MAX_PIXELS} pixels",
            found=f"a header with more ({error})",
            remedy="shrink the image",
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise many types for damaged files
        found = describe_tiff(data) or f"{counted(len(data), 'byte')} in an unknown format"
        other = recognise_content(data) or OtherContent(found, "replace it, or convert it to 8-bit RGB")
        raise UnreadableImageError(name, expected="an image", found=other.found, remedy=other.remedy) from error


def _orientation(image: Image.Image) -> int:
    # If a PNG has no EXIF before its pixels, Pillow decodes the whole image to search after them.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        return int(orientation) if orientation in _UPRIGHT else 1
    except Exception:  # damaged tags raise many types; the pixels can still be intact
        return 1
