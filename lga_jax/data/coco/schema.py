"""What a COCO annotation file must hold. Faults are found kind by kind, each told in one line that says where it is.

`parse_coco`, for training, refuses the first; the doctor reads on and counts them all.
"""

import gc
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import msgspec

from lga_jax.data.decode import MAX_PIXELS
from lga_jax.errors import UserError

_NEEDED = {
    "images": ("id", "file_name", "height", "width"),
    "categories": ("id", "name"),
    "annotations": ("image_id", "category_id", "bbox"),
}
_EXPECTED = {dict: "an object", list: "a list", int: "a whole number", str: "text"}


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


class Fault(NamedTuple):
    """Entries of an annotation file that have one kind of fault."""

    kind: str  # a word for programs
    section: str  # 'images', 'categories' or 'annotations'
    positions: list[int]  # of the entries in their section, at least one
    text: str  # what was expected and what was found, of the first or of all
    remedy: str


Entries = dict[int, Any]  # of a section, by position


def parse_coco(data: bytes, name: str) -> dict:
    """The content of a COCO annotation file, every part that the project relies on checked. `name` is for errors.

    Of annotations only the keys of `_Annotation` are kept. `bbox` may still be of no use (no area, not finite, outside
    the image). Raises UserError.
    """
    content = read_coco(data, name)
    refuse(find_faults(content), name)
    return content


def refuse(faults: Iterable[Fault], name: str) -> None:
    """Raises a UserError about the first fault, if there is any."""
    for fault in faults:
        raise UserError(f"{name}: {fault.text}", remedy=fault.remedy)


def read_coco(data: bytes, name: str) -> dict:
    """An object with the three lists of a COCO annotation file, not both of images and categories empty.

    What is in the lists is not checked: see `find_faults`. Raises UserError for what is no such file at all.
    """
    content = _read(data, name)
    _check_type(content, dict, name)
    for section in _NEEDED:
        if section not in content:
            raise UserError(
                name,
                expected=f"the keys {', '.join(_NEEDED)}",
                found=f"{section!r} missing",
                remedy="name a COCO file",
            )
        _check_type(content[section], list, f"{name}: {section}")
    for section in ("images", "categories"):
        if not content[section]:
            raise UserError(
                name,
                expected=f"at least one entry in {section!r}",
                found="none",
                remedy="is it the right file?",
            )
    _check_type(content.get("info") or {}, dict, f"{name}: info")  # pycocotools prints it
    return content


def find_faults(content: Mapping) -> Iterator[Fault]:
    """What is wrong with the entries of a `read_coco`; of each only the first fault. Without any, all can be relied on.

    An annotation is not at fault for belonging to an image or a category that is.
    """
    images, categories, annotations = (_Section(content, name) for name in _NEEDED)
    for section in (categories, images, annotations):
        yield from section.check_keys()
    image_ids, category_ids = images.ids(), categories.ids()
    yield from _category_faults(categories)
    yield from _image_faults(images)
    yield from annotations.check_references("category_id", "categories", category_ids)
    yield from annotations.check_references("image_id", "images", image_ids)
    yield from _annotation_faults(annotations)


def sound_entries(content: Mapping, faults: Iterable[Fault]) -> dict[str, Entries]:
    """The entries of each section that have no fault themselves, nor belong to one that has."""
    sound = {section: dict(enumerate(content[section])) for section in _NEEDED}
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
    # A million new dictionaries make the collector look through all of them again and again: half the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        return msgspec.json.decode(data, type=_Content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # not of this form; or with NaN and Infinity, or in UTF-16, which Python's reader takes
    finally:
        if collects:
            gc.enable()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(
            name,
            expected="COCO JSON",
            found=f"no JSON ({shown(str(error))})",
            remedy="export it as UTF-8",
        ) from error


def category_names(truth: Mapping) -> dict[int, str]:
    """Category id -> name, by ascending id. Of names that repeat, each gets its id: 'ship (3)', 'ship (7)'."""
    names = {c["id"]: c["name"] for c in sorted(truth["categories"], key=lambda category: category["id"])}
    while len(names) > len(count := Counter(names.values())):  # again, where another one is called 'ship (3)' already
        names = {number: name if count[name] == 1 else f"{name} ({number})" for number, name in names.items()}
    return names


def check_files_exist(folder: Path, file_names: Iterable[str]) -> None:
    """Raises UserError with a count and one name when images are not in their folder."""
    refuse(find_missing_files(folder, dict(enumerate(file_names))), f"image folder {folder}")


def find_missing_files(folder: Path, file_names: Mapping[int, str]) -> Iterator[Fault]:
    """A fault if images, their names by position in 'images', are not in their folder."""
    missing = list(_missing(folder, file_names))
    if missing:
        found = f"{len(missing)} of {len(file_names)} are missing, first {shown(file_names[missing[0]])}"
        text = f"expected every image of the annotation file, {found}"
        yield Fault("images.file_missing", "images", missing, text, "add them or name another folder")


def _missing(folder: Path, file_names: Mapping[int, str]) -> Iterator[int]:
    # One listing for each folder instead of one question for each of 118,000 files.
    listings: dict[str, set[str]] = {}
    for position, name in file_names.items():
        parent, base = os.path.split(os.path.join(folder, name))
        if parent not in listings:
            listings[parent] = _listing(parent)
        if base not in listings[parent]:
            yield position


def _listing(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))
    except (OSError, ValueError):  # no such folder, or a name that no folder can have
        return set()


class _Section:
    """The entries of a section; a check takes out those that it finds at fault."""

    def __init__(self, content: Mapping, name: str) -> None:
        self.name, self.entries = name, dict(enumerate(content[name]))

    def ids(self) -> set[int | str]:
        """Of all entries that have one, whatever else is wrong with them."""
        return {entry["id"] for entry in self.entries.values() if type(entry["id"]) in (int, str)}

    def check_keys(self) -> Iterator[Fault]:
        needed = _NEEDED[self.name]
        yield from self.check("no_object", lambda e: type(e) is dict, lambda e: f"expected an object, found {shown(e)}")
        yield from self.check(
            "key_missing",
            lambda e: all(key in e for key in needed),
            lambda e: f"expected the keys {', '.join(needed)}, {next(k for k in needed if k not in e)!r} is missing",
            "add it",
        )

    def check_type(self, key: str, kind: type) -> Iterator[Fault]:
        yield from self.check(
            f"{key}_type",
            lambda e: type(e[key]) is kind,  # not isinstance: true and false are no numbers here
            lambda e: f"{key}: expected {_EXPECTED[kind]}, found {shown(e[key])}",
        )

    def check_id_size(self) -> Iterator[Fault]:
        yield from self.check(
            "id_size",
            lambda e: type(e["id"]) is str or _is_number(e["id"]),
            lambda e: f"id: expected a whole number of 64 bits, found {shown(e['id'])}",
            "number them anew",
        )

    def check_unique(self, what: str) -> Iterator[Fault]:
        first = {}
        for position, entry in self.entries.items():
            first.setdefault(entry["id"], position)
        again = [position for position, entry in self.entries.items() if first[entry["id"]] != position]
        if again:
            ids = list(dict.fromkeys(self.entries[position]["id"] for position in again))
            text = f"{what}: expected each once, found {shown(ids)} more than once"
            yield self._take_out("id_repeated", again, text, "make them unique")

    def check_references(self, key: str, section: str, ids: set[int | str]) -> Iterator[Fault]:
        num_entries = len(self.entries)
        unknown = [p for p, e in self.entries.items() if type(e[key]) not in (int, str) or e[key] not in ids]
        if unknown:
            values = list(dict.fromkeys(shown(self.entries[position][key]) for position in unknown))
            text = (
                f"expected every {key} to be listed in {section!r}, {len(unknown)} of {num_entries} annotations have"
                f" one of {len(values)} unknown ids ({', '.join(values[:5])}{', ...' if len(values) > 5 else ''})"
            )
            yield self._take_out(
                f"{key}_unknown", unknown, text, f"add them to {section!r} or remove those annotations"
            )

    def check(
        self, kind: str, holds: Callable[[Any], bool], explain: Callable[[Any], str], remedy: str = "correct it"
    ) -> Iterator[Fault]:
        faulty = [position for position, entry in self.entries.items() if not holds(entry)]
        if faulty:
            text = f"{self.name}[{faulty[0]}]: {explain(self.entries[faulty[0]])}"
            yield self._take_out(kind, faulty, text, remedy)

    def _take_out(self, kind: str, positions: list[int], text: str, remedy: str) -> Fault:
        for position in positions:
            del self.entries[position]
        return Fault(f"{self.name}.{kind}", self.name, positions, text, remedy)


def _category_faults(categories: _Section) -> Iterator[Fault]:
    yield from categories.check_type("id", int)
    yield from categories.check_id_size()
    yield from categories.check_type("name", str)
    yield from categories.check_unique("category ids")


def _image_faults(images: _Section) -> Iterator[Fault]:
    # All numbers or all names: pycocotools sorts them.
    kinds = (type(entry["id"]) for entry in images.entries.values())
    yield from images.check_type("id", next((kind for kind in kinds if kind in (int, str)), int))
    yield from images.check_id_size()
    yield from images.check_type("file_name", str)
    yield from images.check(
        "file_name_outside",
        lambda e: not _leads_outside(e["file_name"]),
        lambda e: f"file_name: expected a path within the image folder, without '..', found {shown(e['file_name'])}",
        "move the image there",
    )
    yield from images.check(
        "size",
        lambda e: _is_length(e["height"]) and _is_length(e["width"]),
        lambda e: f"expected a height and width of whole pixels, found {shown([e['height'], e['width']])}",
        "correct them",
    )
    yield from images.check(
        "too_large",
        lambda e: e["height"] * e["width"] <= MAX_PIXELS,
        lambda e: f"expected at most {MAX_PIXELS} pixels, found {shown([e['height'], e['width']])}",
        "shrink the image",
    )
    yield from images.check_unique("image ids")


def _annotation_faults(annotations: _Section) -> Iterator[Fault]:
    yield from annotations.check(
        "bbox",
        lambda e: is_bbox(e["bbox"]),
        lambda e: f"bbox: expected four numbers [x, y, width, height], found {shown(e['bbox'])}",
    )
    yield from annotations.check(
        "iscrowd",
        lambda e: e.get("iscrowd") in (0, 1, None),
        lambda e: f"iscrowd: expected 0 or 1, found {shown(e['iscrowd'])}",
    )
    yield from annotations.check(
        "area",
        lambda e: e.get("area") is None or _is_number(e["area"]),
        lambda e: f"area: expected a number of pixels, found {shown(e['area'])}",
        "correct or remove it",
    )


def _check_type(value: object, kind: type, where: str) -> None:
    if type(value) is not kind:
        raise UserError(
            where,
            expected=str(_EXPECTED[kind]),
            found=shown(value),
            remedy="correct it",
        )


def is_bbox(value: object) -> bool:
    """A list of four numbers, of use or not."""
    return type(value) is list and len(value) == 4 and all(map(_is_number, value))


def _is_number(value: object) -> bool:
    """An int or float that a float64 can hold; NaN and infinity included, which JSON as Python reads it may have."""
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _leads_outside(file_name: str) -> bool:
    """As a path says it. What links in the folder lead to is the business of whoever made them."""
    return os.path.isabs(file_name) or ".." in file_name.replace(os.sep, "/").split("/")


def _is_length(value: object) -> bool:
    return _is_number(value) and value > 0 and float(value).is_integer()


def shown(value: object) -> str:
    """What a file holds, for people: one short line that no content breaks."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
