import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lga_jax.data.coco.source import CocoJson
from lga_jax.data.source import Source, UnreadableImageError, open_source
from lga_jax.data.tfds.prepare import prepare_coco_json, prepare_official
from lga_jax.data.tfds.source import TfdsSource
from lga_jax.evaluation.coco import coco_metrics
from tests.data.conftest import truth
from tests.data.tfds_sets import (
    DIFFICULT,
    OBJECTS,
    WHOLE,
    box,
    coco_archives,
    jpeg,
    open_set,
    taken_for_official,
    write_set,
    write_voc,
)
from tests.faults import refused


def _detections(content: dict, seed: int = 0) -> list[dict]:
    """One for each object, near it and most often of its class."""
    rng = np.random.default_rng(seed)
    category_ids = [category["id"] for category in content["categories"]]
    found = []
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        dx, dy, dw, dh = rng.normal(0, 0.12, 4)
        category_id = annotation["category_id"] if rng.random() < 0.8 else int(rng.choice(category_ids))
        bbox = [x + dx * w, y + dy * h, w * np.exp(dw), h * np.exp(dh)]
        found.append(
            {"image_id": annotation["image_id"], "category_id": category_id, "bbox": bbox, "score": rng.random()}
        )
    return found


def _check_same(source: TfdsSource, reference: CocoJson, every: int = 1) -> None:
    """The same images, boxes and labels."""
    assert source.class_names == reference.class_names
    index_of = {record.image_id: index for index, record in enumerate(source.records)}
    assert index_of.keys() == {record.image_id for record in reference.records}
    for number, expected in enumerate(reference.records):
        record = source.records[index_of[expected.image_id]]
        assert record[:3] == expected[:3]
        np.testing.assert_allclose(record.boxes_original, expected.boxes_original, atol=1e-4, rtol=0)
        np.testing.assert_array_equal(record.labels, expected.labels)
        np.testing.assert_array_equal(record.crowd, expected.crowd)
        if number % every == 0:
            np.testing.assert_array_equal(source.image(index_of[expected.image_id]), reference.image(number))


def _check_same_metrics(source: TfdsSource, reference: CocoJson) -> None:
    """To the last digit, of the same detections."""
    found = _detections(reference.truth())
    metrics, expected = coco_metrics(source.truth(), found), coco_metrics(reference.truth(), found)
    np.testing.assert_equal(metrics.summary, expected.summary)
    np.testing.assert_equal(metrics.per_class, expected.per_class)


# Sets of COCO-JSON folders.


def test_reads_the_folder_known_by_heart_as_coco_json_does(make_set, tmp_path):
    source = open_set(make_set())
    assert isinstance(source, Source)
    reference = CocoJson(str(tmp_path), "annotations.json", "images", skip_empty=False)
    assert [record.image_id for record in source.records] == [11, 5]
    _check_same(source, reference)
    clipped = source.truth()["annotations"][1]
    np.testing.assert_allclose(clipped["bbox"], [50.5, 30, 9.5, 10], atol=1e-4)  # TFDS takes none beyond the image
    assert clipped["area"] == 123.5
    assert [category["id"] for category in source.truth()["categories"]] == [3, 7, 90]
    assert [annotation["id"] for annotation in source.truth()["annotations"]] == [1, 2, 3]


def test_reports_what_it_counted(make_set):
    data_dir = make_set()
    assert open_set(data_dir).report == [
        f"mine train in {data_dir}: 2 images, 3 boxes, 3 classes",
        "1 images without boxes to train on: kept as background",
        "1 crowd boxes: ignored in training, kept for evaluation",
    ]


def test_images_without_boxes_to_train_on_are_skipped_if_asked(make_set):
    source = open_set(make_set(), skip_empty=True)
    assert [record.image_id for record in source.records] == [11]
    assert source.image(0).shape == (40, 60, 3)
    assert source.report[1] == "1 images without boxes to train on: left out"
    assert [image["id"] for image in source.truth()["images"]] == [11, 5]


def test_nothing_to_train_on_is_said(make_set):
    data_dir = make_set({**truth(), "annotations": []})
    with refused("^mine train in ", "^none among 2$"):
        open_set(data_dir, skip_empty=True)


def test_image_ids_may_be_names(make_set):
    content = truth()
    for entry in (*content["images"], *content["annotations"]):
        key = "image_id" if "image_id" in entry else "id"
        entry[key] = f"größe {entry[key]}"
    assert [record.image_id for record in open_set(make_set(content)).records] == ["größe 11", "größe 5"]


def test_several_threads_read_at_once(make_set):
    source = open_set(make_set())
    expected = [source.image(index) for index in range(2)]
    again = open_set(source._split.folder.parents[1])
    with ThreadPoolExecutor(8) as workers:
        for index, image in enumerate(workers.map(again.image, [0, 1] * 50)):
            np.testing.assert_array_equal(image, expected[index % 2])


def test_tensorflow_is_not_needed(make_set):
    data_dir = make_set()
    program = (
        "import sys; from lga_jax.data.tfds.source import TfdsSource;"
        f"image = TfdsSource('mine', {str(data_dir)!r}, 'train', False).image(0);"
        "print(len(image), 'tensorflow' in sys.modules, 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["40", "False", "False"], done.stderr


_SHARED = Path(os.environ.get("LGA_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data")) / "coco_tiny80"
needs_photos = pytest.mark.skipif(
    not _SHARED.is_dir(), reason=f"no data set at {_SHARED}; LGA_SHARED_DATA names another place"
)


def _photos(split: str) -> CocoJson:
    return CocoJson(str(_SHARED), f"annotations/instances_{split}2017.json", f"{split}2017", skip_empty=False)


@needs_photos
def test_photos_prepared_from_their_json_are_the_same(tmp_path):
    names = {"train": "train", "validation": "val"}
    places = {split: (f"annotations/instances_{name}2017.json", f"{name}2017") for split, name in names.items()}
    prepare_coco_json("photos", str(tmp_path), str(_SHARED), places)
    for split, name in names.items():
        _check_same(open_set(tmp_path, "photos", split), _photos(name), every=16)
    _check_same_metrics(open_set(tmp_path, "photos", "validation"), _photos("val"))


@needs_photos
def test_photos_prepared_by_the_official_builder_are_the_same(tmp_path):
    splits = {
        name: (
            (_SHARED / f"annotations/instances_{name}2017.json").read_text(),
            {path.name: path.read_bytes() for path in (_SHARED / f"{name}2017").iterdir()},
        )
        for name in ("train", "val")
    }
    with taken_for_official("coco", coco_archives(tmp_path / "archives", splits)):
        prepare_official("coco/2017", str(tmp_path), str(tmp_path / "archives"))
    for split, name in (("train", "train"), ("validation", "val")):
        _check_same(open_set(tmp_path, "coco/2017", split), _photos(name), every=16)
    _check_same_metrics(open_set(tmp_path, "coco/2017", "validation"), _photos("val"))


# What official sets store in their own way.


def test_voc_of_two_years_is_mixed_into_one(tmp_path):
    write_voc(tmp_path, y2007={"000005": [WHOLE]}, y2012={"2007_000027": [DIFFICULT], "2007_000032": [WHOLE]})
    settings = dict(source="tfds", data_dir=str(tmp_path), split="train", skip_empty=True, weight=1.0)
    parts = {year: {**settings, "name": f"voc/{year}"} for year in ("2007", "2012")}
    source = open_source("mixed", parts=parts)
    assert [record.image_id for record in source.records] == ["2007/000005.jpg", "2012/2007_000032.jpg"]
    assert (len(source.class_names), source.image(1).shape) == (20, (40, 60, 3))


def test_an_image_that_is_added_twice_is_refused(tmp_path):
    write_voc(tmp_path, y2007={"000005": [WHOLE]})
    assert len(open_set(tmp_path, "voc/2007", "train+validation").records) == 2
    with refused("^image ids of voc/2007 ", "^none.jpg 2 times$"):
        open_set(tmp_path, "voc/2007", "test+validation")


def test_degenerate_boxes_are_left_out_and_counted(tmp_path):
    annotated = [{"bbox": box(0.5, 0.0, 0.5, 1.0), "label": 0}, {"bbox": box(0.0, 0.0, 1.0, 1.0), "label": 1}]
    write_set(tmp_path, "mine", OBJECTS, [{"image": jpeg(8, 9), "objects": annotated}])
    source = open_set(tmp_path)
    assert source.report[1:] == ["1 degenerate boxes (no area, nan or infinity): left out"]
    assert [annotation["category_id"] for annotation in source.truth()["annotations"]] == [2]
    np.testing.assert_array_equal(source.records[0].boxes_original, [[0, 0, 9, 8]])


# Slices.


# Images that cannot be read.


def test_a_set_without_any_image_that_can_be_read_is_refused(tmp_path):
    write_set(tmp_path, "mine", OBJECTS, [{"image": b"", "objects": []}])
    with refused("^mine train in ", "^none$"):
        open_set(tmp_path)


def test_an_unreadable_image_of_known_size_stays_as_with_coco_json(make_folder, tmp_path):
    root = make_folder()
    (root / "images" / "a.png").write_bytes(b"no image")
    prepare_coco_json("mine", str(tmp_path / "tfds"), str(root), {"train": ("annotations.json", "images")})
    source = open_set(tmp_path / "tfds")
    assert len(source.records) == 2
    with refused("mine/1.0.0 train: a.png$", "^8 bytes", UnreadableImageError):
        source.image(0)


def test_a_size_that_the_image_does_not_have_is_said(make_set):
    content = truth()
    content["images"][0].update(height=60, width=40)
    source = open_set(make_set(content))
    with refused("a.png$", "^60 x 40$"):
        source.image(0)


def test_a_truncated_jpeg_is_used_and_warned_of_once(tmp_path, caplog):
    data = jpeg(40, 60)
    write_set(tmp_path, "mine", OBJECTS, [{"image": data[: len(data) // 2], "objects": []}])
    source = open_set(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert source.image(0).shape == source.image(0).shape == (40, 60, 3)
    assert len(caplog.records) == 1
    assert "mine/1.0.0 train: 0: truncated, the missing part is grey" in caplog.text


# The index.


# What is not as it should be.
