"""Reads COCO annotation files. `parse_coco`, for training, raises an error for the first fault."""

import gc
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import msgspec

from lga_jax.data.coco.faults import REQUIRED_KEYS, TYPE_NAMES, Fault, find_faults
from lga_jax.data.coco.ids import unify_ids
from lga_jax.data.content import OtherContent, recognise_content
from lga_jax.errors import UserError, shown


class _Annotation(TypedDict, total=False):
    """The keys of an annotation that are read. Segmentations are skipped: they are nine tenths of COCO's file."""

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


Entries = dict[int, Any]  # position in the section -> entry


class Parsed(NamedTuple):
    """A checked annotation file."""

    content: dict  # with unified ids
    notes: list[str]  # report lines about ids that were read as another type


def read_annotation_file(path: Path) -> bytes:
    """The content of an annotation file. Raises UserError if it cannot be read."""
    try:
        if path.exists() and not path.is_file():
            raise OSError(0, "a folder, device or pipe")  # it could be read without end
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"annotation file {path}",
            expected="a readable file",
            found=str(error.strerror),
            remedy="make it readable, or correct the path",
        ) from error


def parse_coco(data: bytes, name: str) -> Parsed:
    """Reads and checks a COCO annotation file. `name` is the subject of errors.

    Annotations keep only the keys of `_Annotation`. A `bbox` may still be unusable (no area, nan, infinity, outside the
    image), and a `file_name` may not have a file. Raises UserError for the first fault.
    """
    content = read_coco(data, name)
    notes = unify_ids(content)
    refuse(find_faults(content), name)
    return Parsed(content, notes)


def refuse(faults: Iterable[Fault], name: str) -> None:
    """Raises a UserError for the first fault, if there is any."""
    for fault in faults:
        raise UserError(f"{name}: {fault.subject}", expected=fault.expected, found=fault.found, remedy=fault.remedy)


def read_coco(data: bytes, name: str) -> dict:
    """Reads the three lists of a COCO annotation file; images and categories are not empty.

    `find_faults` checks the entries of the lists. Raises UserError if the file is not a COCO annotation file.
    """
    content = _read(data, name)
    _check_type(content, dict, name)
    for section in REQUIRED_KEYS:
        if section not in content:
            raise UserError(
                name,
                expected=f"the keys {', '.join(REQUIRED_KEYS)}",
                found=f"no {section!r}",
                remedy="name a COCO annotation file",
            )
        _check_type(content[section], list, f"{name}: {section}")
    for section in ("images", "categories"):
        if not content[section]:
            raise UserError(
                f"{name}: {section}",
                expected="at least one entry",
                found="none",
                remedy="check that it is the right file",
            )
    _check_type(content.get("info") or {}, dict, f"{name}: info")  # pycocotools prints it
    _name_files(content["images"])
    return content


def _name_files(images: Iterable[Any]) -> None:
    """Gives images without `file_name`, as LVIS's, folder and file of their `coco_url`: train2017/000000391895.jpg."""
    for image in images:
        if type(image) is dict and "file_name" not in image and type(url := image.get("coco_url")) is str:
            image["file_name"] = "/".join(url.split("/")[-2:])


def sound_entries(content: Mapping, faults: Iterable[Fault]) -> dict[str, Entries]:
    """The entries of each section without a fault and without a faulty image or category."""
    sound = {section: dict(enumerate(content[section])) for section in REQUIRED_KEYS}
    for fault in faults:
        for position in fault.positions:
            sound[fault.section].pop(position, None)
    images, categories = ({entry["id"] for entry in sound[section].values()} for section in ("images", "categories"))
    sound["annotations"] = {
        position: annotation
        for position, annotation in sound["annotations"].items()
        if annotation["image_id"] in images and annotation["category_id"] in categories
    }
    return sound


def _read(data: bytes, name: str) -> Any:
    # With a million new dictionaries, garbage collection takes half of the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        return msgspec.json.decode(data, type=_Content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # not of this form, or with NaN, Infinity or UTF-16, which Python's parser accepts
    finally:
        if collects:
            gc.enable()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        found, remedy = _why_invalid(data, error)
        raise UserError(name, expected="COCO JSON", found=found, remedy=remedy) from error


def _why_invalid(data: bytes, error: Exception) -> OtherContent:
    """What a file that is not JSON is, and the remedy."""
    if (other := recognise_content(data)) is not None:
        return other
    if data.lstrip().startswith(b"<"):
        return OtherContent("XML", "convert it to COCO JSON (docs/data.md shows how)")
    found = f"invalid JSON ({shown(str(error))})"
    if isinstance(error, UnicodeDecodeError):
        return OtherContent(found, "export it as UTF-8")
    if data.lstrip()[:1] == b"{" and data.rstrip()[-1:] != b"}":
        return OtherContent(f"JSON that ends too early ({len(data):,} bytes)", "copy or export the file again")
    return OtherContent(found, "name a COCO annotation file, or correct it at this place")


def category_names(truth: Mapping) -> dict[int, str]:
    """Category id -> name, by ascending id. Equal names get their ids appended: 'ship (3)', 'ship (7)'."""
    names = {c["id"]: c["name"] for c in sorted(truth["categories"], key=lambda category: category["id"])}
    while len(names) > len(
        count := Counter(names.values())
    ):  # repeat if another category has the name 'ship (3)' already
        names = {number: name if count[name] == 1 else f"{name} ({number})" for number, name in names.items()}
    return names


def _check_type(value: object, kind: type, where: str) -> None:
    if type(value) is not kind:
        raise UserError(
            where,
            expected=str(TYPE_NAMES[kind]),
            found=shown(value),
            remedy="correct it",
        )
