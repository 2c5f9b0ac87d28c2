"""What TFDS stores, in the terms of COCO's evaluation."""

import re

import numpy as np
import pytest
import tensorflow_datasets as tfds

from lga_jax.data.tfds.prepare import prepare_coco_json
from lga_jax.evaluation.coco import coco_metrics
from tests.data.tfds_sets import DIFFICULT, OBJECTS, WHOLE, box, jpeg, open_set, write_set, write_voc
from tests.faults import refused


def test_coco_gets_its_category_ids_and_areas_back(tmp_path):
    names = [f"class {number}" for number in range(80)]
    objects = {**OBJECTS, "label": tfds.features.ClassLabel(names=names), "area": np.int64, "is_crowd": np.bool_}
    areas = [1023, 1024, 9216, 7]
    annotated = [
        {"bbox": box(0.0, 0.0, 1.0, 1.0), "label": label, "area": area, "is_crowd": label == 11}
        for label, area in zip([0, 11, 12, 79], areas, strict=True)
    ]
    write_set(tmp_path, "coco", objects, [{"image": jpeg(8, 9), "objects": annotated}])
    content = open_set(tmp_path, "coco").truth()
    ids = [category["id"] for category in content["categories"]]
    assert (len(ids), ids[0], ids[11], ids[12], ids[79]) == (80, 1, 13, 14, 90)
    assert [annotation["category_id"] for annotation in content["annotations"]] == [1, 13, 14, 90]
    assert [annotation["area"] for annotation in content["annotations"]] == [1023.5, 1024.5, 9216.5, 7.5]
    assert [annotation["iscrowd"] for annotation in content["annotations"]] == [0, 1, 0, 0]
    assert [(image["id"], image["height"], image["width"]) for image in content["images"]] == [("0", 8, 9)]


def test_half_a_pixel_of_area_keeps_objects_in_their_size():
    """What evaluation would do with COCO's areas as TFDS cuts them: an object of 1024.5 counts as small as well."""
    content = {
        "images": [{"id": 1, "height": 60, "width": 60}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "area": 0, "iscrowd": 0}],
    }
    found = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.9}]
    small = {}
    for area in (1024.7, 1024, 1024.5):
        content["annotations"][0]["area"] = area
        small[area] = coco_metrics(content, found).summary["AP_small"]
    assert np.isnan([small[1024.7], small[1024.5]]).all()
    assert small[1024] == pytest.approx(1)


def test_voc_counts_pixels_from_one_and_its_difficult_objects_are_ignored(tmp_path):
    write_voc(tmp_path, y2007={"000005": [WHOLE, DIFFICULT], "000007": []})
    source = open_set(tmp_path, "voc/2007")
    records = {record.image_id: record for record in source.records}
    assert records.keys() == {"000005.jpg", "000007.jpg"}
    record = records["000005.jpg"]
    np.testing.assert_allclose(record.boxes_original, [[0, 0, 60, 40], [9, 4, 20, 30]], atol=1e-5)
    np.testing.assert_array_equal(record.crowd, [False, True])
    assert [source.class_names[label] for label in record.labels] == ["car", "cat"]
    content = source.truth()
    found = [
        {"image_id": "000005.jpg", "category_id": 8, "bbox": [9, 4, 11, 26], "score": 0.9},  # the difficult one
        {"image_id": "000005.jpg", "category_id": 7, "bbox": [0, 0, 60, 40], "score": 0.8},
    ]
    assert coco_metrics(content, found).summary["AP"] == pytest.approx(1)


def test_a_folder_prepared_as_voc_keeps_its_pixels(make_folder, tmp_path):
    prepare_coco_json("voc", str(tmp_path / "tfds"), str(make_folder()), {"train": ("annotations.json", "images")})
    boxes = open_set(tmp_path / "tfds", "voc").records[0].boxes_original
    np.testing.assert_allclose(boxes[0], [10, 5, 30, 35], atol=1e-5)


def test_groups_of_open_images_are_crowds(tmp_path):
    bobjects = {**OBJECTS, "is_group_of": np.int8, "source": tfds.features.ClassLabel(names=["drawn"])}
    annotated = [
        {"bbox": box(0.25, 0.5, 0.75, 1.0), "label": 1, "is_group_of": group, "source": 0} for group in (-1, 0, 1)
    ]
    example = {
        "image": jpeg(20, 40),
        "objects": [],
        "bobjects": annotated,
        "image/filename": "000002b66c9c498e.jpg",
    }
    write_set(
        tmp_path,
        "open_images_v4",
        {"label": tfds.features.ClassLabel(num_classes=9)},
        [example],
        **{"bobjects": tfds.features.Sequence(bobjects), "image/filename": tfds.features.Text()},
    )
    source = open_set(tmp_path, "open_images_v4")
    assert source.records[0].image_id == "000002b66c9c498e.jpg"
    np.testing.assert_array_equal(source.records[0].crowd, [False, False, True])
    np.testing.assert_array_equal(source.records[0].boxes_original, [[20, 5, 40, 15]] * 3)
    assert [annotation["area"] for annotation in source.truth()["annotations"]] == [200] * 3


@pytest.mark.parametrize("hw", [(0, 9), (8, -20), (2**40, 2**40)])
def test_a_size_that_no_image_has_is_refused(tmp_path, hw):
    example = {"image": jpeg(8, 9), "image/height": hw[0], "image/width": hw[1], "objects": []}
    write_set(tmp_path, "mine", OBJECTS, [example], **{"image/height": np.int64, "image/width": np.int64})
    with refused("train: 0$", f"^{hw[0]} and {hw[1]}$"):
        open_set(tmp_path)


def test_a_name_that_is_no_text_is_refused(tmp_path):
    example = {"image": jpeg(8, 9), "image/filename": b"\xff\xfe.jpg", "objects": []}
    write_set(tmp_path, "mine", OBJECTS, [example], **{"image/filename": tfds.features.Text()})
    with refused("train: example 0$", "'utf-8' codec"):
        open_set(tmp_path)


def test_objects_without_a_known_label_are_refused(tmp_path):
    annotated = [{"bbox": box(0.0, 0.0, 1.0, 1.0), "label": -1}]
    write_set(tmp_path, "mine", OBJECTS, [{"image": jpeg(8, 9), "objects": annotated}])
    with refused("^labels of mine train ", "^-1 and 0 more"):
        open_set(tmp_path)


def test_splits_are_added_and_sliced(tmp_path):
    examples = [{"image": jpeg(8, width), "objects": []} for width in range(5, 15)]
    write_set(tmp_path, "mine", OBJECTS, examples)
    widths = {
        split: [record.width for record in open_set(tmp_path, "mine", split).records]
        for split in ("train", "train[:30%]", "train[30%:]", "train[1:3]+train[8:]")
    }
    assert widths["train"] == widths["train[:30%]"] + widths["train[30%:]"] == list(range(5, 15))
    assert widths["train[1:3]+train[8:]"] == [6, 7, 13, 14]
    assert [open_set(tmp_path, "mine", "train[30%:]").image(0).shape[1]] == [8]


def test_a_set_without_boxes_is_refused(tmp_path):
    write_set(tmp_path, "mine", {"label": tfds.features.ClassLabel(num_classes=3)}, [{"image": b"", "objects": []}])
    with refused("mine/1.0.0$", "image, objects$"):
        open_set(tmp_path)


def test_boxes_in_another_format_are_refused(tmp_path):
    bbox = tfds.features.BBoxFeature(bbox_format="XYWH")
    write_set(tmp_path, "mine", {**OBJECTS, "bbox": bbox}, [{"image": b"", "objects": []}])
    with refused("mine/1.0.0$", "image, objects$"):
        open_set(tmp_path)


@pytest.mark.parametrize("number", [10**9, 10**15, 1, -1])
def test_a_number_of_classes_without_names_is_damage(tmp_path, number):
    """A list of a billion classes would take minutes and all memory."""
    write_set(tmp_path, "mine", OBJECTS, [{"image": jpeg(8, 9), "objects": []}])
    (path,) = tmp_path.rglob("features.json")
    path.write_text(re.sub('"numClasses": "[0-9]+"', f'"numClasses": "{number}"', path.read_text()))
    with refused("mine", "damaged"):
        open_set(tmp_path)
