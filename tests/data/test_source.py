"""How the data section of a config names what it reads."""

import numpy as np
import pytest

from lga_jax.data.challenge.source import Challenge
from lga_jax.data.coco.source import CocoJson
from lga_jax.data.mixed import MixedSource
from lga_jax.data.source import Record, Source, UnreadableImageError, find_source, open_source
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
