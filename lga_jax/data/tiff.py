"""TIFF files: the kinds that are decoded, and a description of the others."""

import io

import cv2
import numpy as np
from jaxtyping import Num
from PIL import Image, TiffImagePlugin

from lga_jax.data.depth import unsuitable

# Tags and their values.
WIDTH, LENGTH = 256, 257
_BITS, _PHOTOMETRIC, _BANDS, _SAMPLE_FORMAT = 258, 262, 277, 339
_MIN_IS_WHITE, _SIGNED = 0, 2
_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_FORMATS = {1: "unsigned integers", 2: "signed integers", 3: "floats", 6: "complex numbers"}
# With IMREAD_COLOR_RGB, OpenCV 5.0 returns memory that it never wrote.
_BGR_FLAGS = cv2.IMREAD_COLOR_BGR | cv2.IMREAD_ANYDEPTH


def num_bits(image: Image.Image) -> int:
    """The most bits per channel of a TIFF that Pillow has opened."""
    return max(image.tag_v2.get(_BITS, (1,)))


def tiff_pixels(image: Image.Image, data: bytes, name: str) -> Num[np.ndarray, "h w *c"]:
    """The pixels of a TIFF that Pillow has opened, upright, grey or RGB, of the type in the file.

    Raises UnreadableImageError for kinds that Pillow would read as other values, and any exception for damaged files.
    """
    tags, bits = image.tag_v2, num_bits(image)
    if bits <= 8 and _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
        raise unsuitable(name, f"signed integers of {bits} bits")
    image.load()
    if image.mode.startswith(("I", "F")):
        if tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE:
            raise unsuitable(name, f"{bits} bits where the lowest value is white")
        return np.asarray(image)
    if bits <= 8:
        return np.asarray(image.convert("RGB"))
    if image.mode != "RGB":
        raise unsuitable(name, f"{tags.get(_BANDS)} bands of {bits} bits")
    # Pillow reads the upper eight bits of each channel.
    return cv2.imdecode(np.frombuffer(data, np.uint8), _BGR_FLAGS)[..., ::-1]


def describe_tiff(data: bytes) -> str | None:
    """What kind of TIFF a file is that Pillow does not open; None for other files and damaged ones."""
    if not data.startswith(_STARTS):
        return None
    try:
        file = io.BytesIO(data)
        tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(tags.next)
        tags.load(file)
        bands, bits = int(tags.get(_BANDS, 1)), max(tags[_BITS])
        kind = _FORMATS.get(tags.get(_SAMPLE_FORMAT, (1,))[0], "unknown values")
        return f"a TIFF of {bands} bands, {kind} of {bits} bits, photometric interpretation {tags.get(_PHOTOMETRIC)}"
    except Exception:  # damaged tags raise many types
        return None
