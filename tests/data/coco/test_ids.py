"""Ids as tools write them: which are made equal, and which stay faults."""

import copy

import pytest

from lga_jax.data.coco.faults import find_faults
from lga_jax.data.coco.ids import unify_ids


def _content(images=(1, 2), categories=(1, 2), image_ids=(1, 2), category_ids=(1, 2)) -> dict:
    return {
        "images": [{"id": i, "file_name": f"{n}.png", "height": 9, "width": 9} for n, i in enumerate(images)],
        "categories": [{"id": i, "name": f"class {n}"} for n, i in enumerate(categories)],
        "annotations": [
            {"image_id": i, "category_id": c, "bbox": [1, 1, 2, 2]}
            for i, c in zip(image_ids, category_ids, strict=True)
        ],
    }


@pytest.mark.parametrize(
    "written",
    [
        dict(category_ids=(1.0, 2.0)),
        dict(categories=(1.0, 2.0)),
        dict(images=(1.0, 2), image_ids=(1, 2.0)),
        dict(image_ids=("1", "2")),
        dict(image_ids=(1, "2")),
        dict(image_ids=("01", 2)),
        dict(category_ids=("1", "2")),
        dict(categories=("1", "2")),
        dict(categories=("1", "2"), category_ids=("1", "2")),
    ],
)
def test_ids_of_one_meaning_become_equal_and_are_reported(written):
    content = _content(**written)
    assert len(unify_ids(content)) >= 1
    assert content == _content() and list(find_faults(content)) == []
    kinds = {type(entry[key]) for entry in content["annotations"] for key in ("image_id", "category_id")}
    assert kinds == {int}


def test_images_keep_ids_that_are_text():
    content = _content(images=("0001", "b"), image_ids=("0001", "b"))
    before = copy.deepcopy(content)
    assert unify_ids(content) == [] and content == before
    content = _content(images=("0001", "b"), image_ids=(1, "b"))
    assert len(unify_ids(content)) == 1 and content["annotations"][0]["image_id"] == "0001"


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        (dict(category_ids=(1.5, 2)), "annotations.category_id_unknown"),
        (dict(categories=("1", 2)), "categories.id_type"),
        (dict(categories=("1", "x")), "categories.id_type"),
        (dict(categories=("1", "01")), "categories.id_type"),
        (dict(images=("1", "01"), image_ids=(1, "01")), "annotations.image_id_unknown"),
        (dict(image_ids=("1 ", "2")), "annotations.image_id_unknown"),
        (dict(image_ids=("1_0", "2"), images=(10, 2)), "annotations.image_id_unknown"),
        (dict(image_ids=(True, 2)), "annotations.image_id_unknown"),
        (dict(image_ids=(float("inf"), 2)), "annotations.image_id_unknown"),
        (dict(images=(1.0, 1), image_ids=(1, 1)), "images.id_repeated"),
    ],
)
def test_ids_of_no_certain_meaning_stay_faults(written, kind):
    content = _content(**written)
    unify_ids(content)
    assert next(find_faults(content)).kind == kind
