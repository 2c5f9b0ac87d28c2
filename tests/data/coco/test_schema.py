"""Each kind of fault of an annotation file, by its kind and by the entries that have it."""

import contextlib
import gc
import json
from pathlib import Path

import pytest

from lga_jax.data.coco.schema import (
    category_names,
    check_files_exist,
    find_faults,
    find_missing_files,
    parse_coco,
    read_coco,
    shown,
    sound_entries,
)
from lga_jax.errors import UserError
from tests.data.conftest import truth


def _parse(content: object) -> dict:
    return parse_coco(json.dumps(content).encode(), "f.json")


def _in(section: str, position: int, **values: object):
    return lambda t: t[section][position].update(values)


def _without(section: str, position: int, key: str):
    return lambda t: t[section][position].pop(key)


# What spoils a file: the kind of fault, and the positions of the entries that have it.
FAULTS = {
    "image no object": (lambda t: t["images"].append(3), "images.no_object", [2]),
    "image without height": (_without("images", 1, "height"), "images.key_missing", [1]),
    "height zero": (_in("images", 1, height=0), "images.size", [1]),
    "height negative": (_in("images", 1, height=-50), "images.size", [1]),
    "height text": (_in("images", 1, height="50"), "images.size", [1]),
    "height not whole": (_in("images", 1, height=49.5), "images.size", [1]),
    "height infinite": (_in("images", 1, height=float("inf")), "images.size", [1]),
    "width zero": (_in("images", 0, width=0), "images.size", [0]),
    "image too large": (_in("images", 0, height=20_000, width=20_000), "images.too_large", [0]),
    "image id twice": (_in("images", 1, id=11), "images.id_repeated", [1]),
    "image id beyond 64 bits": (
        lambda t: [t["images"][1].update(id=2**63), t["annotations"][5].update(image_id=2**63)],
        "images.id_size",
        [1],
    ),
    "image id a list": (_in("images", 0, id=[1]), "images.id_type", [0]),
    "image ids mixed": (_in("images", 1, id="5"), "images.id_type", [1]),
    "file name a number": (_in("images", 0, file_name=3), "images.file_name_type", [0]),
    "file name that climbs": (_in("images", 1, file_name="x/../../b.png"), "images.file_name_outside", [1]),
    "file name from the root": (_in("images", 0, file_name="/dev/zero"), "images.file_name_outside", [0]),
    "category id beyond 64 bits": (_in("categories", 1, id=-(10**30)), "categories.id_size", [1]),
    "category id twice": (_in("categories", 1, id=90), "categories.id_repeated", [1]),
    "category id text": (_in("categories", 1, id="3"), "categories.id_type", [1]),
    "category id true": (_in("categories", 1, id=True), "categories.id_type", [1]),
    "category name number": (_in("categories", 1, name=3), "categories.name_type", [1]),
    "category unknown": (
        lambda t: [a.update(category_id=8) for a in t["annotations"][:2]],
        "annotations.category_id_unknown",
        [0, 1],
    ),
    "image unknown": (
        lambda t: [a.update(image_id=100 + i) for i, a in enumerate(t["annotations"])],
        "annotations.image_id_unknown",
        [0, 1, 2, 3, 4, 5, 6],
    ),
    "category true": (_in("annotations", 0, category_id=True), "annotations.category_id_unknown", [0]),
    "bbox of three": (_in("annotations", 3, bbox=[1, 2, 3]), "annotations.bbox", [3]),
    "bbox of text": (_in("annotations", 3, bbox=["1", 2, 3, 4]), "annotations.bbox", [3]),
    "bbox empty": (_in("annotations", 3, bbox=[]), "annotations.bbox", [3]),
    "bbox null": (_in("annotations", 3, bbox=None), "annotations.bbox", [3]),
    "bbox beyond float": (_in("annotations", 3, bbox=[10**400, 0, 1, 1]), "annotations.bbox", [3]),
    "no bbox": (_without("annotations", 3, "bbox"), "annotations.key_missing", [3]),
    "iscrowd two": (_in("annotations", 3, iscrowd=2), "annotations.iscrowd", [3]),
    "area text": (_in("annotations", 3, area="big"), "annotations.area", [3]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_where_it_is_and_refused_in_one_line(name):
    spoil, kind, positions = FAULTS[name]
    content = truth()
    spoil(content)
    fault = next(find_faults(content))
    assert (fault.kind, fault.section, fault.positions) == (kind, kind.split(".")[0], positions)
    with pytest.raises(UserError) as caught:
        _parse(content)
    assert str(caught.value) == f"f.json: {fault.text}; {fault.remedy}"
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_without_faults_is_given_as_it_is():
    content = truth()
    del content["annotations"][4]  # nan is no JSON, and not equal to itself
    assert list(find_faults(content)) == []
    assert _parse(content) == content


def test_what_holds_at_the_limits():
    content = truth()
    content["images"][0].update(height=1, width=178_956_970, id=2**63 - 1)
    content["annotations"] = [
        {"image_id": 2**63 - 1, "category_id": 3, "bbox": [0, 0, 1, 1], "iscrowd": None, "area": None},
        {"image_id": 5, "category_id": 3, "bbox": [-1.5, 2**63 - 1, 1e300, 0], "iscrowd": 1, "area": 0},
    ]
    assert list(find_faults(content)) == []
    content["images"][0]["width"] += 1
    assert [fault.kind for fault in find_faults(content)] == ["images.too_large"]


def test_outlines_are_not_kept():
    content = truth()
    del content["annotations"][4]
    content["annotations"][0]["segmentation"] = [[1, 2, 3]]
    assert "segmentation" not in _parse(content)["annotations"][0]


@pytest.mark.parametrize(
    ("spoil", "subject", "found"),
    [
        (lambda t: t.pop("images"), "f.json", "'images' missing"),
        (lambda t: t.pop("categories"), "f.json", "'categories' missing"),
        (lambda t: t.pop("annotations"), "f.json", "'annotations' missing"),
        (lambda t: t.update(images=[], annotations=[]), "f.json", "none"),
        (lambda t: t.update(categories=[], annotations=[]), "f.json", "none"),
        (lambda t: t.update(images={}), "f.json: images", "{}"),
        (lambda t: t.update(annotations=3), "f.json: annotations", "3"),
        (lambda t: t.update(info="x"), "f.json: info", "'x'"),
    ],
)
def test_what_is_no_annotation_file_is_refused(spoil, subject, found):
    content = truth()
    spoil(content)
    with pytest.raises(UserError) as caught:
        read_coco(json.dumps(content).encode(), "f.json")
    assert (caught.value.subject, caught.value.found) == (subject, found)


def test_no_annotations_and_an_empty_info_are_no_fault():
    content = truth() | {"annotations": [], "info": None}
    assert _parse(content)["annotations"] == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"\x00",
        b'{"images": ' + b"9" * 5000 + b"}",
        json.dumps(truth(), ensure_ascii=False).replace("car", "voilà").encode("latin-1"),
    ],
    ids=["empty", "half", "deep", "zero", "long number", "latin-1"],
)
def test_what_is_not_json_is_refused(data):
    with pytest.raises(UserError) as caught:
        read_coco(data, "f.json")
    assert (caught.value.subject, caught.value.expected) == ("f.json", "COCO JSON")
    assert len(str(caught.value).splitlines()) == 1


def test_json_of_another_kind_is_refused():
    with pytest.raises(UserError) as caught:
        read_coco(b"[]", "f.json")
    assert (caught.value.subject, caught.value.expected, caught.value.found) == ("f.json", "an object", "[]")


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("data", [b"{", json.dumps(truth()).encode()])
def test_the_garbage_collector_is_left_as_it_was(enabled, data):
    before = gc.isenabled()
    try:
        gc.enable() if enabled else gc.disable()
        with contextlib.suppress(UserError):
            read_coco(data, "f.json")
        assert gc.isenabled() == enabled
    finally:
        gc.enable() if before else gc.disable()


def test_utf_16_is_read():
    content = truth()
    del content["annotations"][4]
    assert read_coco(json.dumps(content).encode("utf-16"), "f.json") == content


def test_sound_entries_leave_out_the_faulty_and_what_belongs_to_them():
    content = truth()
    content["images"][1]["height"] = 0  # the image of annotations 5 and 6
    content["annotations"][0]["bbox"] = [1]
    content["annotations"][1]["category_id"] = 8
    sound = sound_entries(content, find_faults(content))
    assert {section: list(entries) for section, entries in sound.items()} == {
        "images": [0],
        "categories": [0, 1, 2],
        "annotations": [2, 3, 4],
    }
    assert sound["annotations"][2] is content["annotations"][2]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("toothbrush", "car", "train"), ["car", "train", "toothbrush"]),
        (("car", "car", "train"), ["car (3)", "train", "car (90)"]),
        (("car (3)", "car", "car"), ["car (3) (3)", "car (7)", "car (3) (90)"]),  # different from all others
    ],
)
def test_names_that_repeat_get_their_ids(names, expected):
    content = truth()
    for category, name in zip(content["categories"], names, strict=True):
        category["name"] = name
    named = category_names(content)
    assert list(named) == [3, 7, 90]
    assert list(named.values()) == expected


def test_images_that_are_missing_are_named_by_position(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.png"):
        (tmp_path / name).touch()
    check_files_exist(tmp_path, ["a.png", "sub/b.png"])
    names = {0: "a.png", 3: "b.png", 4: "sub/b.png", 7: "no/a\0.png"}
    (fault,) = find_missing_files(tmp_path, names)
    assert (fault.kind, fault.positions) == ("images.file_missing", [3, 7])
    with pytest.raises(UserError, match=r"1 of 2 are missing, first 'c.png'"):
        check_files_exist(tmp_path, ["a.png", "c.png"])


def test_what_a_file_holds_is_shown_in_a_short_line():
    assert shown("a\nb") == r"'a\nb'"
    assert len(shown("x" * 78)) == 80
    assert len(shown("x" * 79)) == 80 and shown("x" * 79).endswith("x...")
