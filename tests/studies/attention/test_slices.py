"""Slices of a small board: three images, two classes."""

import numpy as np
import pytest

from studies.attention.slices import NOTHING, by_occlusion, by_size, owner_of, slices


def box(image_id, category_id, *bbox, **more):
    return {"image_id": image_id, "category_id": category_id, "bbox": list(bbox)} | more


OBJECTS = [
    box(1, 1, 0, 0, 10, 10),
    box(1, 2, 5, 0, 10, 10),  # IoU 1/3 with the first
    box(2, 1, 0, 0, 20, 20),
    box(2, 2, 18, 0, 20, 20),  # IoU 40 / 760 with the third
    box(3, 2, 0, 0, 30, 30),
]
TRUTH = {
    "images": [{"id": number} for number in (1, 2, 3)],
    "categories": [{"id": 1, "name": "ace"}, {"id": 2, "name": "king"}],
    "annotations": OBJECTS,
}
FOUND = [
    box(1, 1, 0, 0, 10, 10, score=0.9),
    box(1, 1, 5, 0, 10, 10, score=0.95),  # a king as an ace
    box(1, 2, 5, 0, 10, 10, score=0.8),
    box(2, 1, 0, 0, 20, 20, score=0.9),
    box(2, 2, 18, 0, 20, 20, score=0.9),
    box(3, 2, 0, 0, 30, 30, score=0.9),
    box(3, 1, 60, 60, 9, 9, score=0.99),  # background
]


def test_a_detection_belongs_to_the_object_that_it_overlaps_most():
    assert owner_of(OBJECTS, FOUND).tolist() == [0, 1, 1, 2, 3, 4, NOTHING]
    assert owner_of([], FOUND).tolist() == [NOTHING] * 7


def test_occlusion_and_size_by_hand():
    occlusion, size = by_occlusion(OBJECTS), by_size(OBJECTS)
    assert {name: np.flatnonzero(kept).tolist() for name, kept in occlusion.items()} == {
        "none": [4],
        "below 0.3": [2, 3],
        "from 0.3": [0, 1],
    }
    assert [np.flatnonzero(kept).tolist() for kept in size.values()] == [[0, 1], [2, 3], [4]]


def test_only_the_slice_of_a_confusion_loses_ap():
    found = slices(TRUTH, FOUND)
    assert found["occlusion"]["none"] == {"objects": 1, "AP": 1.0}
    assert found["occlusion"]["below 0.3"] == {"objects": 2, "AP": 1.0}
    # The false ace stands before the true one: precision 1/2 for aces, 1 for kings.
    assert found["occlusion"]["from 0.3"] == {"objects": 2, "AP": pytest.approx(0.75, abs=0.01)}
    assert found["size"]["large"]["AP"] == 1.0
    assert found["pair"]["ace/king"]["objects"] == 5
    assert 0.75 < found["pair"]["ace/king"]["AP"] < 1.0
