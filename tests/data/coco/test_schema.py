"""What is an annotation file, and what is kept of it."""

import contextlib
import gc
import json

import pytest

from lga_jax.data.coco.faults import find_faults
from lga_jax.data.coco.schema import (
    category_names,
    parse_coco,
    read_coco,
    sound_entries,
)
from lga_jax.errors import UserError
from tests.data.conftest import truth


def _parse(content: object) -> dict:
    return parse_coco(json.dumps(content).encode(), "f.json").content


def test_the_first_fault_is_refused():
    content = truth()
    content["annotations"][3]["iscrowd"] = 2
    with pytest.raises(UserError) as caught:
        _parse(content)
    assert caught.value.subject == "f.json: annotations[3].iscrowd"


def test_a_file_without_faults_is_given_as_it_is():
    content = truth()
    del content["annotations"][4]  # nan is no JSON, and not equal to itself
    assert list(find_faults(content)) == []
    assert _parse(content) == content


def test_outlines_are_not_kept():
    content = truth()
    del content["annotations"][4]
    content["annotations"][0]["segmentation"] = [[1, 2, 3]]
    assert "segmentation" not in _parse(content)["annotations"][0]


@pytest.mark.parametrize(
    ("spoil", "subject", "found"),
    [
        (lambda t: t.pop("images"), "f.json", "no 'images'"),
        (lambda t: t.pop("categories"), "f.json", "no 'categories'"),
        (lambda t: t.pop("annotations"), "f.json", "no 'annotations'"),
        (lambda t: t.update(images=[], annotations=[]), "f.json: images", "none"),
        (lambda t: t.update(categories=[], annotations=[]), "f.json: categories", "none"),
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


@pytest.mark.parametrize(
    ("data", "found", "remedy"),
    [
        (b" \n", "an empty file (2 bytes)", "again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n", "git-lfs pointer", "git lfs pull"),
        (b"\x1f\x8b\x08abc", "an archive", "unpack"),
        (b"<!DOCTYPE html><html>", "a web page", "download"),
        (b"<annotation><filename>a.jpg</filename></annotation>", "XML", "convert"),
        (b'{"images": [{"id": 1, "fi', "ends too early (25 bytes)", "again"),
        (b'{"images": [{"id": 1; 2}]}', "invalid JSON", "correct it"),
        ('{"images": "é"}'.encode("latin-1"), "utf-8", "UTF-8"),
    ],
)
def test_what_is_not_json_is_named_with_a_remedy_that_fits(data, found, remedy):
    with pytest.raises(UserError) as caught:
        read_coco(data, "f.json")
    assert found in caught.value.found and remedy in caught.value.remedy


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
