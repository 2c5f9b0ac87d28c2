"""The rules for the entries of a COCO annotation file. A fault names one broken rule and all entries that break it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from lga_jax.data.decode import MAX_PIXELS
from lga_jax.data.federated import LISTS
from lga_jax.errors import listed, shown

REQUIRED_KEYS = {
    "images": ("id", "file_name", "height", "width"),
    "categories": ("id", "name"),
    "annotations": ("image_id", "category_id", "bbox"),
}
TYPE_NAMES = {dict: "an object", list: "a list", int: "an integer", str: "a string"}


class Fault(NamedTuple):
    """One kind of fault, and the entries of an annotation file that have it."""

    kind: str  # a name for programs
    section: str  # 'images', 'categories' or 'annotations'
    positions: list[int]  # indices of the faulty entries in their section, at least one
    subject: str  # the first faulty entry, such as "annotations[3].bbox", or the checked list
    expected: str
    found: str  # in the first faulty entry, or a count of all
    remedy: str


def find_faults(content: Mapping) -> Iterator[Fault]:
    """Finds the faults in the entries of a file from `read_coco`; each entry is reported once, for its first fault.

    An annotation is not faulty because its image or category is.
    """
    images, categories, annotations = (_Section(content, name) for name in REQUIRED_KEYS)
    image_ids, category_ids = images.ids(), categories.ids()
    for section in (categories, images, annotations):
        yield from section.check_keys()
    yield from _category_faults(categories)
    yield from _image_faults(images)
    yield from _list_faults(images, category_ids)
    yield from annotations.check_references("category_id", "categories", category_ids)
    yield from annotations.check_references("image_id", "images", image_ids)
    yield from _annotation_faults(annotations)


class _Section:
    """The entries of a section; each check removes the faulty ones."""

    def __init__(self, content: Mapping, name: str) -> None:
        self.name, self.entries = name, dict(enumerate(content[name]))

    def ids(self) -> set[int | str]:
        """The ids of all entries, including faulty ones."""
        ids = (entry.get("id") for entry in self.entries.values() if type(entry) is dict)
        return {number for number in ids if type(number) in (int, str)}

    def check_keys(self) -> Iterator[Fault]:
        needed = REQUIRED_KEYS[self.name]
        yield from self.check("no_object", lambda e: type(e) is dict, "", "an object", lambda e: e)
        yield from self.check(
            "key_missing",
            lambda e: all(key in e for key in needed),
            "",
            f"the keys {', '.join(needed)}",
            lambda e: list(e),
            "add the missing key",
        )

    def check_type(self, key: str, kind: type) -> Iterator[Fault]:
        # Not isinstance: bool is a subclass of int.
        yield from self.check(f"{key}_type", lambda e: type(e[key]) is kind, key, TYPE_NAMES[kind])

    def check_id_size(self) -> Iterator[Fault]:
        yield from self.check(
            "id_size",
            lambda e: type(e["id"]) is str or _is_number(e["id"]),
            "id",
            "an integer of 64 bits",
            remedy="use smaller ids",
        )

    def check_unique(self) -> Iterator[Fault]:
        first = {}
        for position, entry in self.entries.items():
            first.setdefault(entry["id"], position)
        again = [position for position, entry in self.entries.items() if first[entry["id"]] != position]
        if again:
            ids = list(dict.fromkeys(self.entries[position]["id"] for position in again))
            yield self._remove(
                "id_repeated",
                again,
                f"ids of {self.name}",
                "unique ids",
                f"{shown(ids)} more than once",
                "renumber them",
            )

    def check_references(self, key: str, section: str, ids: set[int | str]) -> Iterator[Fault]:
        num_entries = len(self.entries)
        unknown = [p for p, e in self.entries.items() if type(e[key]) not in (int, str) or e[key] not in ids]
        if unknown:
            values = list(dict.fromkeys(shown(self.entries[position][key]) for position in unknown))
            yield self._remove(
                f"{key}_unknown",
                unknown,
                f"{key} of annotations",
                f"ids listed in {section!r}",
                f"unknown ids in {len(unknown)} of {num_entries} annotations: {listed(values)}",
                f"add them to {section!r} or remove these annotations",
            )

    def check(
        self,
        kind: str,
        holds: Callable[[Any], bool],
        key: str,
        expected: str,
        found: Callable[[Any], object] | None = None,
        remedy: str = "correct it",
    ) -> Iterator[Fault]:
        """A fault if entries exist for which `holds` is false. `found` of an entry is by default its value of `key`."""
        faulty = [position for position, entry in self.entries.items() if not holds(entry)]
        if faulty:
            first = self.entries[faulty[0]]
            subject = f"{self.name}[{faulty[0]}]{f'.{key}' if key else ''}"
            yield self._remove(kind, faulty, subject, expected, shown(found(first) if found else first[key]), remedy)

    def _remove(self, kind: str, positions: list[int], subject: str, expected: str, found: str, remedy: str) -> Fault:
        for position in positions:
            del self.entries[position]
        return Fault(f"{self.name}.{kind}", self.name, positions, subject, expected, found, remedy)


def _category_faults(categories: _Section) -> Iterator[Fault]:
    yield from categories.check_type("id", int)
    yield from categories.check_id_size()
    yield from categories.check_type("name", str)
    yield from categories.check_unique()


def _image_faults(images: _Section) -> Iterator[Fault]:
    # All integers or all strings: pycocotools sorts them.
    kinds = (type(entry["id"]) for entry in images.entries.values())
    yield from images.check_type("id", next((kind for kind in kinds if kind in (int, str)), int))
    yield from images.check_id_size()
    yield from images.check_type("file_name", str)
    yield from images.check(
        "size",
        lambda e: _is_length(e["height"]) and _is_length(e["width"]),
        "",
        "a height and width in whole pixels",
        _hw,
        "correct them",
    )
    yield from images.check(
        "too_large",
        lambda e: e["height"] * e["width"] <= MAX_PIXELS,
        "",
        f"a height and width of at most {MAX_PIXELS} pixels",
        _hw,
        "shrink the image",
    )
    yield from images.check_unique()


def _list_faults(images: _Section, category_ids: set[int | str]) -> Iterator[Fault]:
    """Faults of LVIS's lists: all images have both lists, or none has one."""
    if not any(key in image for image in images.entries.values() for key in LISTS):
        return
    needed = " and ".join(LISTS)
    yield from images.check(
        "lists_missing",
        lambda e: all(key in e for key in LISTS),
        "",
        needed,
        list,
        "add the lists, or remove all of them",
    )
    for key in LISTS:
        yield from images.check(
            "lists_unknown",
            lambda e, key=key: type(e[key]) is list and all(type(one) is int and one in category_ids for one in e[key]),
            key,
            "a list of ids of 'categories'",
        )


def _hw(image: Mapping) -> list:
    return [image["height"], image["width"]]


def _annotation_faults(annotations: _Section) -> Iterator[Fault]:
    yield from annotations.check("bbox", lambda e: is_bbox(e["bbox"]), "bbox", "four numbers [x, y, width, height]")
    yield from annotations.check("iscrowd", lambda e: e.get("iscrowd") in (0, 1, None), "iscrowd", "0 or 1")
    yield from annotations.check(
        "area",
        lambda e: e.get("area") is None or _is_number(e["area"]),
        "area",
        "a number",
        remedy="correct or remove it",
    )


def is_bbox(value: object) -> bool:
    """True for a list of four numbers; the box may still be unusable."""
    return type(value) is list and len(value) == 4 and all(map(_is_number, value))


def _is_number(value: object) -> bool:
    """True for a float or an int of 64 bits. NaN and infinity count: Python's JSON parser accepts them."""
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _is_length(value: object) -> bool:
    return _is_number(value) and value > 0 and float(value).is_integer()
