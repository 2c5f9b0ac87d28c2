"""How the data section of a config names what it reads."""

import numpy as np
import pytest

from lga_jax.data import source as source_module
from lga_jax.data.challenge.source import Challenge
from lga_jax.data.coco.source import CocoJson
from lga_jax.data.mixed import MixedSource
from lga_jax.data.object_masks import Bitmap
from lga_jax.data.source import (
    MaskCounts,
    Record,
    Source,
    UnreadableImageError,
    find_source,
    fingerprint_of,
    mask_counts_of,
    object_masks_of,
    open_source,
    report_of,
    truth_of,
)
from lga_jax.data.tfds.source import TfdsSource
from lga_jax.errors import UserError

FOLDER = dict(root="nowhere", annotations="a.json", images="images", skip_empty=False)


@pytest.mark.parametrize(
    ("name", "constructor"),
    [("coco_json", CocoJson), ("challenge", Challenge), ("mixed", MixedSource), ("tfds", TfdsSource)],
)
def test_every_kind_is_found_by_its_name(name, constructor):
    assert find_source(name) is constructor


def test_a_source_is_opened_with_its_settings(make_folder):
    source = open_source("coco_json", **FOLDER | {"root": str(make_folder()), "annotations": "annotations.json"})
    assert isinstance(source, Source)
    assert len(source.records) == 2


def test_an_epoch_sees_an_image_once_unless_its_source_says_more():
    empty = np.zeros(0)
    record = Record(1, 2, 3, np.zeros((0, 4), np.float32), empty.astype(np.int32), empty.astype(bool))
    assert record.weight == 1.0


def test_an_unreadable_image_is_a_fault_of_the_user_within_its_place():
    fault = UnreadableImageError("4.jpg", expected="an image", found="3 bytes").within("data part 'a'")
    assert isinstance(fault, UnreadableImageError) and isinstance(fault, UserError)
    assert (fault.subject, fault.expected, fault.found) == ("data part 'a': 4.jpg", "an image", "3 bytes")


class Own:
    """A source with the three members that training needs."""

    class_names = ("bright", "dark")

    def __init__(self, shift=0.0):
        box = np.array([[4, 6, 24, 36], [0, 0, 8, 8]], np.float32) + np.float32(shift)
        self.records = [Record("a", 64, 48, box, np.array([1, 0], np.int32), np.array([False, True]))]

    def image(self, index):
        return np.zeros((64, 48, 3), np.uint8)


def test_truth_comes_from_the_records_of_a_source_without_its_own():
    truth = truth_of(Own())
    assert truth["categories"] == [{"id": 1, "name": "bright"}, {"id": 2, "name": "dark"}]
    assert truth["images"] == [{"id": "a", "height": 64, "width": 48}]
    first, second = truth["annotations"]
    expected = {"id": 1, "image_id": "a", "category_id": 2, "bbox": [4, 6, 20, 30], "area": 600, "iscrowd": 0}
    assert first == expected
    assert (second["category_id"], second["bbox"], second["iscrowd"]) == (1, [0, 0, 8, 8], 1)


def test_a_truth_of_its_own_is_taken():
    class Scored(Own):
        def truth(self):
            return {"annotations": "mine"}

    assert truth_of(Scored()) == {"annotations": "mine"}


def test_report_and_fingerprint_are_optional():
    assert report_of(Own()) == [] and fingerprint_of(Own()) == fingerprint_of(Own())
    assert fingerprint_of(Own(1.0)) != fingerprint_of(Own())
    assert isinstance(Own(), Source)


def test_a_truth_that_is_passed_on_by_getattr_is_used():
    class Wrapped(Own):
        def __getattr__(self, name):
            return {"truth": lambda: {"images": "its own"}}[name]

    assert truth_of(Wrapped()) == {"images": "its own"}


def test_masks_of_an_own_source_are_counted_in_a_sample(monkeypatch):
    class Masked(Own):
        def object_masks(self, index):
            return [Bitmap(np.ones((2, 2), bool)), None]

    assert object_masks_of(Own(), 0) == [None, None]
    assert mask_counts_of(Own()) == [MaskCounts("", 2, {"mask_missing": 2})]
    source = Masked()
    source.records = source.records * 50
    assert mask_counts_of(source) == [MaskCounts("", 100, {"mask_missing": 50})]
    monkeypatch.setattr(source_module, "_NUM_SAMPLED", 10)
    assert mask_counts_of(source) == [MaskCounts("a sample of 10 images", 20, {"mask_missing": 10})]
    vehicles = Challenge(3)
    assert mask_counts_of(vehicles)[0].total == sum(len(vehicles.object_masks(index)) for index in range(3))
