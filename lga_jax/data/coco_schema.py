"""What a COCO annotation file must hold; each fault is refused in one line that says where it is."""

import gc
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import msgspec

from lga_jax.data.images import MAX_PIXELS
from lga_jax.errors import UserError

_NEEDED = {
    "images": ("id", "file_name", "height", "width"),
    "categories": ("id", "name"),
    "annotations": ("image_id", "category_id", "bbox"),
}


class _Annotation(TypedDict, total=False):
    """What is kept of an annotation. COCO's outlines are left out: they are nine tenths of the file."""

    id: Any
    image_id: Any
    category_id: Any
    bbox: Any
    area: Any
    iscrowd: Any
    part_bbox: Any


class _Content(TypedDict, total=False):
    info: Any
    images: Any
    annotations: list[_Annotation]
    categories: Any


def parse_coco(data: bytes, name: str) -> dict:
    """The content of a COCO annotation file, every part that the project relies on checked. `name` is for errors.

    Of annotations only the keys of `_Annotation` are kept. `bbox` may still be of no use (no area, not finite, outside
    the image). Raises UserError.
    """
    truth = _read(data, name)
    _check_keys(truth, name)
    _check_categories(truth["categories"], name)
    _check_images(truth["images"], name)
    _check_references(truth, name)
    for position, annotation in enumerate(truth["annotations"]):
        _check_annotation(annotation, f"{name}: annotations[{position}]")
    return truth


def _read(data: bytes, name: str) -> Any:
    # A million new dictionaries make the collector look through all of them again and again: half the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        return msgspec.json.decode(data, type=_Content)
    except (msgspec.DecodeError, RecursionError):
        pass  # not of this form; or with NaN and Infinity, which Python's reader takes
    finally:
        if collects:
            gc.enable()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: expected COCO JSON, found no JSON ({_shown(str(error))}); export it again") from error


def category_names(truth: Mapping) -> dict[int, str]:
    """Category id -> name, by ascending id. Of names that repeat, each gets its id: 'ship (3)', 'ship (7)'."""
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    count = Counter(category["name"] for category in categories)
    return {c["id"]: c["name"] if count[c["name"]] == 1 else f"{c['name']} ({c['id']})" for c in categories}


def check_files_exist(folder: Path, file_names: Sequence[str]) -> None:
    """Raises UserError with a count and one name when images are not in their folder."""
    missing = [name for name, found in zip(file_names, _exist(folder, file_names), strict=True) if not found]
    if missing:
        raise UserError(
            f"image folder {folder}: expected every image of the annotation file, {len(missing)} of"
            f" {len(file_names)} are missing, first {_shown(missing[0])}; add them or name another folder"
        )


def _exist(folder: Path, file_names: Iterable[str]) -> Iterable[bool]:
    # One listing for each folder instead of one question for each of 118,000 files.
    listings: dict[Path, set[str]] = {}
    for name in file_names:
        parent = (folder / name).parent
        if parent not in listings:
            listings[parent] = _listing(parent)
        yield (folder / name).name in listings[parent]


def _listing(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in folder.iterdir()}
    except (OSError, ValueError):  # no such folder, or a name that no folder can have
        return set()


def _check_keys(truth: object, name: str) -> None:
    _check_type(truth, dict, name)
    for section, keys in _NEEDED.items():
        if section not in truth:
            raise UserError(f"{name}: expected the keys {', '.join(_NEEDED)}, {section!r} is missing; name a COCO file")
        _check_type(truth[section], list, f"{name}: {section}")
        for position, entry in enumerate(truth[section]):
            where = f"{name}: {section}[{position}]"
            _check_type(entry, dict, where)
            for key in keys:
                if key not in entry:
                    raise UserError(f"{where}: expected the keys {', '.join(keys)}, {key!r} is missing; add it")
    for section in ("images", "categories"):
        if not truth[section]:
            raise UserError(f"{name}: expected at least one entry in {section!r}, found none; is it the right file?")
    _check_type(truth.get("info") or {}, dict, f"{name}: info")  # pycocotools prints it


def _check_categories(categories: list[dict], name: str) -> None:
    for position, category in enumerate(categories):
        _check_type(category["id"], int, f"{name}: categories[{position}]: id")
        _check_type(category["name"], str, f"{name}: categories[{position}]: name")
    _check_unique([category["id"] for category in categories], f"{name}: category ids")


def _check_images(images: list[dict], name: str) -> None:
    kind = type(images[0]["id"])
    if kind not in (int, str):
        raise UserError(
            f"{name}: images[0]: id: expected a number or a name, found {_shown(images[0]['id'])}; correct it"
        )
    for position, image in enumerate(images):
        where = f"{name}: images[{position}]"
        _check_type(image["id"], kind, f"{where}: id")  # all numbers or all names: pycocotools sorts them
        _check_type(image["file_name"], str, f"{where}: file_name")
        sides = [image["height"], image["width"]]
        if not all(_is_number(side) and side > 0 and float(side).is_integer() for side in sides):
            raise UserError(
                f"{where}: expected a height and width of whole pixels, found {_shown(sides)}; correct them"
            )
        if sides[0] * sides[1] > MAX_PIXELS:
            raise UserError(f"{where}: expected at most {MAX_PIXELS} pixels, found {_shown(sides)}; shrink the image")
    _check_unique([image["id"] for image in images], f"{name}: image ids")


def _check_references(truth: Mapping, name: str) -> None:
    for key, section in (("category_id", "categories"), ("image_id", "images")):
        ids = {entry["id"] for entry in truth[section]}
        kind = type(truth[section][0]["id"])
        found = [annotation[key] for annotation in truth["annotations"]]
        unknown = [value for value in found if type(value) is not kind or value not in ids]
        if unknown:
            values = list(dict.fromkeys(map(_shown, unknown)))
            raise UserError(
                f"{name}: expected every {key} to be listed in {section!r}, {len(unknown)} of {len(found)} annotations"
                f" have one of {len(values)} unknown ids ({', '.join(values[:5])}{', ...' if len(values) > 5 else ''});"
                f" add them to {section!r} or remove those annotations"
            )


def _check_annotation(annotation: Mapping, where: str) -> None:
    bbox = annotation["bbox"]
    if not (isinstance(bbox, list) and len(bbox) == 4 and all(map(_is_number, bbox))):
        raise UserError(f"{where}: bbox: expected four numbers [x, y, width, height], found {_shown(bbox)}; correct it")
    if annotation.get("iscrowd") not in (0, 1, None):
        raise UserError(f"{where}: iscrowd: expected 0 or 1, found {_shown(annotation['iscrowd'])}; correct it")
    area = annotation.get("area")
    if area is not None and not _is_number(area):
        raise UserError(f"{where}: area: expected a number of pixels, found {_shown(area)}; correct or remove it")


def _check_type(value: object, kind: type, where: str) -> None:
    if type(value) is not kind:  # not isinstance: true and false are no numbers here
        expected = {dict: "an object", list: "a list", int: "a whole number", str: "text"}[kind]
        raise UserError(f"{where}: expected {expected}, found {_shown(value)}; correct it")


def _check_unique(ids: list[int] | list[str], what: str) -> None:
    repeated = [value for value, count in Counter(ids).items() if count > 1]
    if repeated:
        raise UserError(f"{what}: expected each once, found {_shown(repeated)} more than once; make them unique")


def _is_number(value: object) -> bool:
    """An int or float that a float64 can hold; NaN and infinity included, which JSON as Python reads it may have."""
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _shown(value: object) -> str:
    # repr keeps it on one line, whatever the file holds.
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
