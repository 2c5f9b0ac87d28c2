"""LVIS's lists, from the file to the records, the ground truth and the report."""

import numpy as np
import pytest

from lga_jax.data.federated import LISTS, has_lists, report_lists, verified_labels
from lga_jax.data.source import fingerprint_of, is_federated, open_source, truth_of
from lga_jax.errors import UserError
from tests.data import lvis_folder
from tests.data.conftest import truth as coco_truth

# Image 3: boxes of 10 and 30, absent 20. Image 5: box of 30, not all of them; absent 10. Image 9: 20. Image 12: 40, 10.
VERIFIED = [[0, 1, 2], [0], [1], [0, 3]]


def test_verified_are_the_annotated_and_the_absent_without_those_annotated_in_part():
    found = verified_labels(lvis_folder.truth(), (10, 20, 30, 40))
    assert [labels.tolist() for labels in found] == VERIFIED
    assert verified_labels(coco_truth(), (3, 7, 90)) is None


def test_a_file_of_lvis_is_a_source(tmp_path):
    settings = lvis_folder.write(tmp_path)
    source = open_source(**settings)
    assert source.file_names[:2] == ["train2017/000000000003.jpg", "val2017/000000000005.jpg"]  # from coco_url
    assert source.image(1).shape == (64, 64, 3)
    assert [record.verified.tolist() for record in source.records] == VERIFIED
    assert is_federated(source) and has_lists(truth_of(source))
    assert truth_of(source)["categories"][0]["frequency"] == "r"
    assert any("1.8 of 4 classes" in line for line in source.report)


class Own:
    class_names = ("a",)

    def __init__(self, verified):
        record = open_source("challenge", num_images=1).records[0]
        self.records = [record._replace(verified=verified)]

    def image(self, index):
        raise NotImplementedError


def test_lists_of_other_sources_count_in_their_fingerprint():
    digests = {fingerprint_of(Own(verified)) for verified in (None, np.int32([]), np.int32([0]))}
    assert len(digests) == 3


def test_a_file_with_frequencies_but_without_lists_is_read_as_coco_and_reported(tmp_path):
    content = lvis_folder.truth()
    for image in content["images"]:
        for key in LISTS:
            del image[key]
    source = open_source(**lvis_folder.write(tmp_path, content))
    assert not is_federated(source)
    assert sum("plain COCO" in line for line in source.report) == 1
    assert list(report_lists(coco_truth(), None)) == []


@pytest.mark.parametrize("key", LISTS)
def test_a_file_with_lists_in_some_images_only_is_refused(tmp_path, key):
    content = lvis_folder.truth()
    del content["images"][2][key]
    with pytest.raises(UserError) as caught:
        open_source(**lvis_folder.write(tmp_path, content))
    assert caught.value.subject == f"{tmp_path / 'lvis.json'}: images[2]"
    assert key in caught.value.expected
