"""A source without annotations from arrays, files and PIL images."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps

from lga_jax.data.decode import MAX_PIXELS, decode_image, read_image_file, upright_hw
from lga_jax.data.depth import to_eight_bits
from lga_jax.data.source import Record, UnreadableImageError
from lga_jax.errors import UserError

ImageInput = Shaped[np.ndarray, "..."] | str | os.PathLike | Image.Image

_CHANNELS = (1, 3, 4)  # grey, RGB, RGBA


class GivenImages:
    """A Source of arrays, files and PIL images, numbered from 0. Files are decoded on demand.

    Raises UserError with the path or 'image 0', 'image 1', ... as subject: immediately for a missing file or a wrong
    array, in `image` for pixels that cannot be decoded.
    """

    def __init__(self, images: Sequence[ImageInput], class_names: Sequence[str]) -> None:
        """Reads only the headers of files."""
        self.class_names = tuple(class_names)
        self._images = [
            os.path.expanduser(image) if isinstance(image, str | os.PathLike) else as_rgb(image, f"image {number}")
            for number, image in enumerate(images)
        ]
        self.records = [
            Record(number, *_size(image), np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool))
            for number, image in enumerate(self._images)
        ]
        self.report: list[str] = []
        self.fingerprint = ""  # only training uses it

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Upright RGB pixels; a truncated JPEG gives the pixels before its end."""
        return as_rgb(self._images[index], f"image {index}")

    def truth(self) -> dict:
        """The images, without annotations; category ids count from 1."""
        return {
            "images": [{"id": r.image_id, "height": r.height, "width": r.width} for r in self.records],
            "annotations": [],
            "categories": [{"id": i, "name": name} for i, name in enumerate(self.class_names, start=1)],
        }


def as_rgb(image: object, subject: str) -> UInt8[np.ndarray, "h w 3"]:
    """The RGB pixels of an array [h w], [h w 1], [h w 3] or [h w 4] of uint8, a path, or a PIL image.

    The EXIF orientation of files and PIL images is applied. An alpha channel is ignored. Raises UserError for other
    input; its subject is the path, or `subject`.
    """
    if isinstance(image, str | os.PathLike):
        return _read(os.path.expanduser(image))
    if isinstance(image, Image.Image):
        return _from_pil(image, subject)
    if isinstance(image, np.ndarray):
        return _from_array(image, subject)
    raise UserError(
        subject,
        expected="a numpy array, a path or a PIL image",
        found=f"a {type(image).__name__}",
        remedy="convert it with numpy.asarray",
    )


def _size(image: UInt8[np.ndarray, "h w 3"] | str | os.PathLike) -> tuple[int, int]:
    if isinstance(image, np.ndarray):
        return image.shape[0], image.shape[1]
    return upright_hw(read_image_file(image), str(image))


def _read(path: str | os.PathLike) -> UInt8[np.ndarray, "h w 3"]:
    with _never_grey():
        return decode_image(read_image_file(path), str(path)).image


def _from_pil(image: Image.Image, subject: str) -> UInt8[np.ndarray, "h w 3"]:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        with _never_grey():
            upright = Image.fromarray(to_eight_bits(np.asarray(upright), subject).pixels)
    return np.array(upright.convert("RGB"))


@contextmanager
def _never_grey() -> Iterator[None]:
    """Loaders replace an image with UnreadableImageError by a grey image; here the caller needs the error."""
    try:
        yield
    except UnreadableImageError as error:
        raise UserError(error.subject, expected=error.expected, found=error.found, remedy=error.remedy) from error


def _from_array(image: Shaped[np.ndarray, "..."], subject: str) -> UInt8[np.ndarray, "h w 3"]:
    if image.dtype != np.uint8:
        raise UserError(
            subject,
            expected="uint8 values from 0 to 255",
            found=f"dtype {image.dtype}",
            remedy="convert it; for values from 0 to 1, use (255 * image).round().astype('uint8')",
        )
    shaped = image[..., None] if image.ndim == 2 else image
    if shaped.ndim != 3 or shaped.shape[2] not in _CHANNELS or not 0 < shaped.shape[0] * shaped.shape[1] <= MAX_PIXELS:
        raise UserError(
            subject,
            expected=f"the shape (height, width) or (height, width, 1, 3 or 4) and at most {MAX_PIXELS} pixels",
            found=f"{image.shape}",
            remedy="give several images as a list",
        )
    return np.ascontiguousarray(np.broadcast_to(shaped[..., :3], (*shaped.shape[:2], 3)))
