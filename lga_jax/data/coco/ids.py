"""Ids as tools write them: whole floats (1.0), or text in one list and numbers in the other."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)  # int() accepts more: spaces, underscores, other digits
_KEYS = (
    ("categories", "id"),
    ("images", "id"),
    ("annotations", "category_id"),
    ("annotations", "image_id"),
)


def unify_ids(content: Mapping) -> list[str]:
    """Makes equal ids equal in Python, in the entries of a file from `read_coco`; returns a report line per change.

    Whole floats become integers. Category ids that are all numbers in text become integers. Ids of annotations that are
    text become the integer of 'images' or 'categories', or the reverse, if exactly one id has this number. All other
    ids stay as they are, for `find_faults`.
    """
    notes = [note for section, key in _KEYS for note in _whole_floats(content, section, key)]
    notes += _category_numbers(content)
    notes += _references(content, "category_id", "categories")
    return notes + _references(content, "image_id", "images")


def _whole_floats(content: Mapping, section: str, key: str) -> list[str]:
    entries = [e for e in _objects(content[section]) if type(e.get(key)) is float and e[key].is_integer()]
    if not entries:
        return []
    first = entries[0][key]
    for entry in entries:
        entry[key] = int(entry[key])
    return [f"{len(entries):,} {key} of {section} are whole floats: read as integers (first {first} as {int(first)})"]


def _category_numbers(content: Mapping) -> list[str]:
    categories = _objects(content["categories"])
    numbers = [_number(category.get("id")) for category in categories if type(category.get("id")) is str]
    if not numbers or len(numbers) < len(content["categories"]) or None in numbers or len({*numbers}) < len(numbers):
        return []
    first = categories[0]["id"]
    for category, number in zip(categories, numbers, strict=True):
        category["id"] = number
    return [f"{len(numbers):,} id of categories are text: read as integers (first {first!r} as {numbers[0]})"]


def _references(content: Mapping, key: str, section: str) -> list[str]:
    """Gives `key` of annotations the type of the ids in `section`, where the number of exactly one id is meant."""
    kinds = {type(entry.get("id")) for entry in _objects(content[section])}
    if kinds not in ({int}, {str}):
        return []
    other = str if kinds == {int} else int
    entries = [annotation for annotation in _objects(content["annotations"]) if type(annotation.get(key)) is other]
    ids = _by_number(entry["id"] for entry in _objects(content[section])) if entries else {}
    changed = [(entry, ids[number]) for entry in entries if (number := _number(entry[key])) in ids]
    if not changed:
        return []
    first, meant = changed[0][0][key], changed[0][1]
    for entry, value in changed:
        entry[key] = value
    return [f"{len(changed):,} {key} of annotations have another type: matched with {section} ({first!r} is {meant!r})"]


def _by_number(ids: Iterable[int | str]) -> dict[int, int | str]:
    """Number -> id. Without numbers that several ids have, such as '7' and '007'."""
    found: dict[int, set] = {}
    for value in ids:
        if (number := _number(value)) is not None:
            found.setdefault(number, set()).add(value)
    return {number: next(iter(values)) for number, values in found.items() if len(values) == 1}


def _number(value: Any) -> int | None:
    if type(value) is int:
        return value
    return int(value) if type(value) is str and _WHOLE.fullmatch(value) else None


def _objects(entries: Iterable) -> list[dict]:
    return [entry for entry in entries if type(entry) is dict]
