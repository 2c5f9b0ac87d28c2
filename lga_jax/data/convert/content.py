"""The content of a COCO annotation file that is made of annotations in another format."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lga_jax.errors import UserError, counted

IMAGE_SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class Box(NamedTuple):
    """One object of an image."""

    label: int  # position in the class names
    bbox: tuple[float, float, float, float]  # x, y, width, height in pixels
    crowd: bool = False


class AnnotatedImage(NamedTuple):
    """An image file and its boxes."""

    path: Path
    hw: tuple[int, int]  # pixels
    boxes: list[Box]


class Converted(NamedTuple):
    """One annotation file to write."""

    images: Path  # the image folder; file names are relative to it
    content: dict[str, Any]
    notes: list[str]  # report lines


def to_content(images: Sequence[AnnotatedImage], folder: Path, class_names: Sequence[str]) -> dict[str, Any]:
    """COCO's lists. Image, category and annotation ids count from 1."""
    annotations = [(number, box) for number, image in enumerate(images, start=1) for box in image.boxes]
    return {
        "images": [
            {"id": number, "file_name": image.path.relative_to(folder).as_posix(), "height": h, "width": w}
            for number, image in enumerate(images, start=1)
            for h, w in [image.hw]
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(class_names, start=1)],
        "annotations": [
            {
                "id": number,
                "image_id": image_id,
                "category_id": box.label + 1,
                "bbox": list(box.bbox),
                "area": box.bbox[2] * box.bbox[3],
                "iscrowd": int(box.crowd),
            }
            for number, (image_id, box) in enumerate(annotations, start=1)
        ],
    }


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder and its sub-folders, in the order of their paths. Raises UserError for none."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not found:
        raise UserError(
            str(folder), expected="a folder with images", found="none", remedy="name the folder of the images"
        )
    return found


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark. Raises UserError."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(
            str(path), expected="a readable file", found=str(error.strerror), remedy="correct the path"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(str(path), expected="a text in UTF-8", found="other bytes", remedy="export it again") from error


def count_line(name: str, images: Sequence[AnnotatedImage], class_names: Iterable[str]) -> str:
    """A report line with the numbers of images, boxes and classes."""
    num_boxes = sum(len(image.boxes) for image in images)
    classes = counted(len(tuple(class_names)), "class")
    return f"{name}: {counted(len(images), 'image')}, {counted(num_boxes, 'box')}, {classes}"
