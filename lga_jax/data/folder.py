"""Image files without annotations, as a source for prediction."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from lga_jax.data.decode import decode_image, is_image, read_image_file, upright_hw
from lga_jax.data.source import Record, UnreadableImageError
from lga_jax.errors import UserError, counted

# A file with one of these extensions is an image, perhaps a damaged one.
SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


class FoundFiles(NamedTuple):
    """The entries of a folder."""

    images: list[Path]
    left_out: list[Path]  # files that are not images, and sub-folders


class ImageFiles:
    """A Source over image files, numbered from 1 in the order given.

    A file without a readable header has no record. A file with a readable header but damaged pixels has a record, and
    `image` raises UnreadableImageError. `unreadable` holds both.
    """

    def __init__(self, paths: Sequence[Path], class_names: Sequence[str]) -> None:
        """Reads the headers of all files."""
        self.class_names = tuple(class_names)
        self.unreadable: dict[Path, UserError] = {}
        sizes = {path: self._size(path) for path in paths}
        self.paths = [path for path in paths if sizes[path]]  # in the order of records
        self.records = [
            Record(number, *sizes[path], np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool))
            for number, path in enumerate(paths, start=1)
            if sizes[path]
        ]
        self.report: list[str] = []
        self.fingerprint = ""  # not used for training

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB pixels, upright. A truncated JPEG gives the pixels before its end."""
        path = self.paths[index]
        try:
            return decode_image(read_image_file(path), str(path)).image
        except UserError as error:
            self.unreadable[path] = error
            raise UnreadableImageError(
                error.subject,
                expected=error.expected,
                found=error.found,
                remedy=error.remedy,
            ) from error

    def truth(self) -> dict:
        """The images, without annotations; category ids count from 1."""
        return {
            "images": [
                {"id": record.image_id, "file_name": path.name, "height": record.height, "width": record.width}
                for record, path in zip(self.records, self.paths, strict=True)
            ],
            "annotations": [],
            "categories": [{"id": i, "name": name} for i, name in enumerate(self.class_names, start=1)],
        }

    def _size(self, path: Path) -> tuple[int, int] | None:
        try:
            return upright_hw(read_image_file(path), str(path))
        except UserError as error:
            self.unreadable[path] = error
            return None


def find_images(place: str) -> FoundFiles:
    """The image file `place`, or the images of the folder `place` sorted by name, without sub-folders.

    A file with an extension of SUFFIXES or with the content of an image is an image. Companions of macOS (._NAME) are
    ignored. Raises UserError if there is no image.
    """
    path = Path(place)
    if path.is_file():
        return FoundFiles([path], [])
    if not path.is_dir():
        raise UserError(
            f"--input {place}",
            expected="an image, a folder of images, a video or a camera",
            found="no such file or folder",
            remedy="correct the path",
        )
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("._"))
    images = [entry for entry in entries if _is_taken(entry)]
    if not images:
        raise UserError(
            f"--input {place}",
            expected="images",
            found=f"none in this folder ({counted(len(entries), 'other file')})",
            remedy="name a folder of images",
        )
    taken = set(images)
    return FoundFiles(images, [entry for entry in entries if entry not in taken])


def _is_taken(entry: Path) -> bool:
    return entry.is_file() and (entry.suffix.lower() in SUFFIXES or is_image(entry))
