"""Each kind of fault of an entry of an annotation file, by its kind and by the entries that have it."""

import pytest

from lga_jax.data.coco.faults import find_faults
from lga_jax.data.coco.schema import refuse
from lga_jax.errors import UserError
from tests.data.conftest import truth


def _in(section: str, position: int, **values: object):
    return lambda t: t[section][position].update(values)


def _without(section: str, position: int, key: str):
    return lambda t: t[section][position].pop(key)


def _lists(neg: object = (), partly: object = ()):
    def spoil(t):
        for image, (absent, some) in zip(t["images"], (([], []), (neg, partly)), strict=True):
            lists = (list(one) if isinstance(one, tuple) else one for one in (absent, some))
            image.update(zip(("neg_category_ids", "not_exhaustive_category_ids"), lists, strict=True))

    return spoil


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
    "one list of two": (_in("images", 1, neg_category_ids=[3]), "images.lists_missing", [0, 1]),
    "list of an unknown id": (_lists(neg=[3, 8]), "images.lists_unknown", [1]),
    "list of a text": (_lists(partly=["3"]), "images.lists_unknown", [1]),
    "list of true": (_lists(partly=[True]), "images.lists_unknown", [1]),
    "list no list": (_lists(neg=3), "images.lists_unknown", [1]),
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
        refuse([fault], "f.json")
    error = caught.value
    assert error.subject == f"f.json: {fault.subject}"
    assert (error.expected, error.found, error.remedy) == (fault.expected, fault.found, fault.remedy)
    assert len(str(error).splitlines()) == 1


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


@pytest.mark.parametrize(("section", "key"), [("categories", "name"), ("images", "height")])
def test_an_entry_without_a_key_is_one_fault_and_none_of_its_annotations(section, key):
    content = truth()
    del content[section][0][key]
    assert [(fault.kind, fault.positions) for fault in find_faults(content)] == [(f"{section}.key_missing", [0])]
