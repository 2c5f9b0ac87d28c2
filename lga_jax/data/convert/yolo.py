"""Reads YOLO's text annotations in the layouts of Ultralytics and Roboflow.

    data.yaml                names, and the images of each split: a folder, a list of folders, or a text file of paths
    images/train/a.jpg       or train/images/a.jpg
    labels/train/a.txt       or train/labels/a.txt; one row per object: class, centre x, centre y, width, height as
                             fractions of the image, or class and the corners of a polygon: x1 y1 x2 y2 ...

An image without a text file has no objects.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lga_jax.data.convert.content import AnnotatedImage, Box, Converted, count_line, images_in, read_text, to_content
from lga_jax.data.decode import read_image_file, upright_hw
from lga_jax.errors import UserError, counted, shown

_SLACK = 0.01  # fractions a little outside of [0, 1] are rounding


def read_yolo(data_yaml: Path, split: str) -> Converted:
    """The images and boxes of a split ("train", "val", "test"). Raises UserError for the first fault.

    Sizes are those of the upright images, as in Ultralytics' training.
    """
    settings = _settings(data_yaml)
    names = _class_names(settings, data_yaml)
    paths = _image_paths(settings, split, data_yaml)
    images, num_polygons, num_without = [], 0, 0
    for path in paths:
        hw, label_file = upright_hw(read_image_file(path), str(path)), _label_file(path)
        num_without += not label_file.is_file()
        rows = _rows(label_file, len(names)) if label_file.is_file() else []
        num_polygons += sum(len(row) > 5 for row in rows)
        images.append(AnnotatedImage(path, hw, [_box(row, hw) for row in rows]))
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    notes = [count_line(split, images, names)]
    if num_without:
        notes.append(f"{counted(num_without, 'image')} without a text file: background")
    if num_polygons:
        notes.append(f"{counted(num_polygons, 'polygon')} converted to the boxes around them")
    return Converted(folder, to_content(images, folder, names), notes)


def _settings(data_yaml: Path) -> Mapping[str, Any]:
    try:
        settings = yaml.safe_load(read_text(data_yaml))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(
            str(data_yaml), expected="YAML", found=shown(str(error)), remedy="export it again, or correct it"
        ) from error
    if not isinstance(settings, dict):
        raise UserError(str(data_yaml), expected="keys such as names and train", found=_kind(settings))
    return settings


def _kind(value: Any) -> str:
    """A value in an error. Lists and mappings are not written out: with YAML's aliases they can have any size."""
    return f"a {type(value).__name__}" if isinstance(value, list | dict) else shown(value)


def _class_names(settings: Mapping[str, Any], data_yaml: Path) -> list[str]:
    names = settings.get("names")
    if isinstance(names, dict) and names.keys() == set(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str | int) for name in names):
        raise UserError(
            f"{data_yaml}: names",
            expected="a list of class names, or numbers from 0 with their names",
            found=_kind(settings.get("names")),
            remedy="correct it",
        )
    return [str(name) for name in names]


def _image_paths(settings: Mapping[str, Any], split: str, data_yaml: Path) -> list[Path]:
    value = settings.get(split)
    entries = value if isinstance(value, list) else [value]
    if not entries or not all(isinstance(entry, str) for entry in entries):
        raise UserError(
            f"{data_yaml}: {split}",
            expected="a folder of images, or a text file of paths",
            found=_kind(value),
            remedy="correct it, or name other splits with --split",
        )
    paths = []
    for entry in entries:
        place = _place(entry, settings, data_yaml)
        paths += images_in(place) if place.is_dir() else _listed(place)
    return list(dict.fromkeys(paths))


def _place(entry: str, settings: Mapping[str, Any], data_yaml: Path) -> Path:
    """The folder or file of an entry. Roboflow writes '../train/images' for a folder beside data.yaml."""
    beside, root = data_yaml.parent, str(settings.get("path") or "")
    bases = [beside / root, beside]
    candidates = [base / part for base in bases for part in (entry, entry.removeprefix("../"))]
    found = next((Path(os.path.normpath(place)) for place in candidates if place.exists()), None)
    if found is None:
        raise UserError(
            f"{data_yaml}: {shown(entry)}",
            expected="a folder or file that exists",
            found=f"none at {candidates[0]}",
            remedy="correct `path` or the entry",
        )
    return found


def _listed(text_file: Path) -> list[Path]:
    lines = [line.strip() for line in read_text(text_file).splitlines()]
    paths = [Path(os.path.normpath(text_file.parent / line)) for line in lines if line]
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        found = f"{len(missing)} of {len(paths)} missing, first {missing[0]}" if missing else "an empty list"
        raise UserError(str(text_file), expected="paths of images", found=found, remedy="correct the list")
    return paths


def _label_file(image: Path) -> Path:
    """The text file of an image: the last folder called images is called labels there."""
    parts = list(image.with_suffix(".txt").parts)
    for position in range(len(parts) - 2, -1, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return Path(*parts)


def _rows(label_file: Path, num_classes: int) -> list[list[float]]:
    rows = []
    for number, line in enumerate(read_text(label_file).splitlines(), start=1):
        if line.strip():
            rows.append(_row(line.split(), num_classes, f"{label_file}: line {number}"))
    return rows


def _row(words: list[str], num_classes: int, where: str) -> list[float]:
    try:
        row = [float(word) for word in words]
    except ValueError:
        row = []
    if len(row) != 5 and (len(row) < 7 or len(row) % 2 == 0):
        raise UserError(
            where,
            expected="a class and four numbers, or a class and the corners of a polygon",
            found=shown(" ".join(words)),
            remedy="correct it",
        )
    if row[0] not in range(num_classes):
        raise UserError(
            where, expected=f"a class from 0 to {num_classes - 1}", found=words[0], remedy="correct `names`"
        )
    if not all(-_SLACK <= value <= 1 + _SLACK for value in row[1:]):
        raise UserError(
            where, expected="fractions of the image, from 0 to 1", found=shown(" ".join(words)), remedy="correct it"
        )
    return row


def _box(row: list[float], hw: tuple[int, int]) -> Box:
    height, width = hw
    if len(row) == 5:
        label, centre_x, centre_y, w, h = row
        bbox = ((centre_x - w / 2) * width, (centre_y - h / 2) * height, w * width, h * height)
    else:
        label, xs, ys = row[0], row[1::2], row[2::2]
        x, y = min(xs), min(ys)
        bbox = (x * width, y * height, (max(xs) - x) * width, (max(ys) - y) * height)
    return Box(int(label), tuple(length if math.isfinite(length) else 0.0 for length in bbox))
