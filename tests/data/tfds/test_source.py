import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from lga_jax.data.coco.source import CocoJson
from lga_jax.data.source import Source, UnreadableImageError, open_source
from lga_jax.data.tfds import index as tfds_index
from lga_jax.data.tfds.prepare import prepare_coco_json, prepare_official
from lga_jax.data.tfds.source import TfdsSource
from lga_jax.data.tfds.split import TfdsSplit
from lga_jax.evaluation.coco import coco_metrics
from tests.data.conftest import truth
from tests.data.tfds_sets import box, coco_archives, jpeg, taken_for_official, voc_archives, write_set
from tests.faults import refused

OBJECTS = {
    "bbox": tfds.features.BBoxFeature(),
    "label": tfds.features.ClassLabel(names=["car", "ship"]),
}


@pytest.fixture(autouse=True)
def _no_cache_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def make_set(make_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """make_set(truth) prepares the folder known by heart as the set "mine", and returns its data_dir."""

    def make(content: object = None) -> Path:
        places = {"train": ("annotations.json", "images")}
        prepare_coco_json("mine", str(tmp_path / "tfds"), str(make_folder(content)), places)
        return tmp_path / "tfds"

    return make


def _open(data_dir: Path, name: str = "mine", split: str = "train", skip_empty: bool = False) -> TfdsSource:
    return TfdsSource(name, str(data_dir), split, skip_empty)


def _index_files(data_dir: Path) -> list[Path]:
    return sorted(data_dir.rglob("index_*.npz"))


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
    found = _detections(reference.coco_json())
    metrics, expected = coco_metrics(source.coco_json(), found), coco_metrics(reference.coco_json(), found)
    np.testing.assert_equal(metrics.summary, expected.summary)
    np.testing.assert_equal(metrics.per_class, expected.per_class)


# Sets of COCO-JSON folders.


def test_reads_the_folder_known_by_heart_as_coco_json_does(make_set, tmp_path):
    source = _open(make_set())
    assert isinstance(source, Source)
    reference = CocoJson(str(tmp_path), "annotations.json", "images", skip_empty=False)
    assert [record.image_id for record in source.records] == [11, 5]
    _check_same(source, reference)
    clipped = source.coco_json()["annotations"][1]
    np.testing.assert_allclose(clipped["bbox"], [50.5, 30, 9.5, 10], atol=1e-4)  # TFDS takes none beyond the image
    assert clipped["area"] == 123.5
    assert [category["id"] for category in source.coco_json()["categories"]] == [3, 7, 90]
    assert [annotation["id"] for annotation in source.coco_json()["annotations"]] == [1, 2, 3]


def test_reports_what_it_counted(make_set):
    data_dir = make_set()
    assert _open(data_dir).report == [
        f"mine train in {data_dir}: 2 images, 3 boxes, 3 classes",
        "1 images without boxes to train on: trained as background",
        "1 crowd boxes: ignored in training, kept for evaluation",
    ]


def test_images_without_boxes_to_train_on_are_skipped_if_asked(make_set):
    source = _open(make_set(), skip_empty=True)
    assert [record.image_id for record in source.records] == [11]
    assert source.image(0).shape == (40, 60, 3)
    assert source.report[1] == "1 images without boxes to train on: left out"
    assert [image["id"] for image in source.coco_json()["images"]] == [11, 5]


def test_nothing_to_train_on_is_said(make_set):
    data_dir = make_set({**truth(), "annotations": []})
    with refused("^mine train in ", "^none among 2$"):
        _open(data_dir, skip_empty=True)


def test_image_ids_may_be_names(make_set):
    content = truth()
    for entry in (*content["images"], *content["annotations"]):
        key = "image_id" if "image_id" in entry else "id"
        entry[key] = f"größe {entry[key]}"
    assert [record.image_id for record in _open(make_set(content)).records] == ["größe 11", "größe 5"]


def test_several_threads_read_at_once(make_set):
    source = _open(make_set())
    expected = [source.image(index) for index in range(2)]
    again = _open(source._split.folder.parents[1])
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
        _check_same(_open(tmp_path, "photos", split), _photos(name), every=16)
    _check_same_metrics(_open(tmp_path, "photos", "validation"), _photos("val"))


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
        _check_same(_open(tmp_path, "coco/2017", split), _photos(name), every=16)
    _check_same_metrics(_open(tmp_path, "coco/2017", "validation"), _photos("val"))


# What official sets store in their own way.


def test_coco_gets_its_category_ids_and_areas_back(tmp_path):
    names = [f"class {number}" for number in range(80)]
    objects = {**OBJECTS, "label": tfds.features.ClassLabel(names=names), "area": np.int64, "is_crowd": np.bool_}
    areas = [1023, 1024, 9216, 7]
    annotated = [
        {"bbox": box(0.0, 0.0, 1.0, 1.0), "label": label, "area": area, "is_crowd": label == 11}
        for label, area in zip([0, 11, 12, 79], areas, strict=True)
    ]
    write_set(tmp_path, "coco", objects, [{"image": jpeg(8, 9), "objects": annotated}])
    content = _open(tmp_path, "coco").coco_json()
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


def _voc(data_dir: Path, **annotations: list[dict]) -> None:
    for year, one in annotations.items():
        archives = voc_archives(data_dir / year, year[1:], one)
        with taken_for_official("voc", archives):
            prepare_official(f"voc/{year[1:]}", str(data_dir), str(data_dir / year))


_WHOLE = dict(name="car", difficult=0, xmin=1, ymin=1, xmax=60, ymax=40)
_DIFFICULT = dict(name="cat", difficult=1, xmin=10, ymin=5, xmax=20, ymax=30)


def test_voc_counts_pixels_from_one_and_its_difficult_objects_are_ignored(tmp_path):
    _voc(tmp_path, y2007={"000005": [_WHOLE, _DIFFICULT], "000007": []})
    source = _open(tmp_path, "voc/2007")
    records = {record.image_id: record for record in source.records}
    assert records.keys() == {"000005.jpg", "000007.jpg"}
    record = records["000005.jpg"]
    np.testing.assert_allclose(record.boxes_original, [[0, 0, 60, 40], [9, 4, 20, 30]], atol=1e-5)
    np.testing.assert_array_equal(record.crowd, [False, True])
    assert [source.class_names[label] for label in record.labels] == ["car", "cat"]
    content = source.coco_json()
    found = [
        {"image_id": "000005.jpg", "category_id": 8, "bbox": [9, 4, 11, 26], "score": 0.9},  # the difficult one
        {"image_id": "000005.jpg", "category_id": 7, "bbox": [0, 0, 60, 40], "score": 0.8},
    ]
    assert coco_metrics(content, found).summary["AP"] == pytest.approx(1)


def test_a_folder_prepared_as_voc_keeps_its_pixels(make_folder, tmp_path):
    prepare_coco_json("voc", str(tmp_path / "tfds"), str(make_folder()), {"train": ("annotations.json", "images")})
    boxes = _open(tmp_path / "tfds", "voc").records[0].boxes_original
    np.testing.assert_allclose(boxes[0], [10, 5, 30, 35], atol=1e-5)


def test_voc_of_two_years_is_mixed_into_one(tmp_path):
    _voc(tmp_path, y2007={"000005": [_WHOLE]}, y2012={"2007_000027": [_DIFFICULT], "2007_000032": [_WHOLE]})
    settings = dict(source="tfds", data_dir=str(tmp_path), split="train", skip_empty=True, weight=1.0)
    parts = {year: {**settings, "name": f"voc/{year}"} for year in ("2007", "2012")}
    source = open_source("mixed", parts=parts)
    assert [record.image_id for record in source.records] == ["2007/000005.jpg", "2012/2007_000032.jpg"]
    assert (len(source.class_names), source.image(1).shape) == (20, (40, 60, 3))


def test_an_image_that_is_added_twice_is_refused(tmp_path):
    _voc(tmp_path, y2007={"000005": [_WHOLE]})
    assert len(_open(tmp_path, "voc/2007", "train+validation").records) == 2
    with refused("^image ids of voc/2007 ", "^none.jpg 2 times$"):
        _open(tmp_path, "voc/2007", "test+validation")


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
    source = _open(tmp_path, "open_images_v4")
    assert source.records[0].image_id == "000002b66c9c498e.jpg"
    np.testing.assert_array_equal(source.records[0].crowd, [False, False, True])
    np.testing.assert_array_equal(source.records[0].boxes_original, [[20, 5, 40, 15]] * 3)
    assert [annotation["area"] for annotation in source.coco_json()["annotations"]] == [200] * 3


def test_degenerate_boxes_are_left_out_and_counted(tmp_path):
    annotated = [{"bbox": box(0.5, 0.0, 0.5, 1.0), "label": 0}, {"bbox": box(0.0, 0.0, 1.0, 1.0), "label": 1}]
    write_set(tmp_path, "mine", OBJECTS, [{"image": jpeg(8, 9), "objects": annotated}])
    source = _open(tmp_path)
    assert source.report[1:] == ["1 degenerate boxes (no area, nan or infinity): left out"]
    assert [annotation["category_id"] for annotation in source.coco_json()["annotations"]] == [2]
    np.testing.assert_array_equal(source.records[0].boxes_original, [[0, 0, 9, 8]])


@pytest.mark.parametrize("hw", [(0, 9), (8, -20), (2**40, 2**40)])
def test_a_size_that_no_image_has_is_refused(tmp_path, hw):
    example = {"image": jpeg(8, 9), "image/height": hw[0], "image/width": hw[1], "objects": []}
    write_set(tmp_path, "mine", OBJECTS, [example], **{"image/height": np.int64, "image/width": np.int64})
    with refused("train: 0$", f"^{hw[0]} and {hw[1]}$"):
        _open(tmp_path)


def test_a_name_that_is_no_text_is_refused(tmp_path):
    example = {"image": jpeg(8, 9), "image/filename": b"\xff\xfe.jpg", "objects": []}
    write_set(tmp_path, "mine", OBJECTS, [example], **{"image/filename": tfds.features.Text()})
    with refused("train: example 0$", "'utf-8' codec"):
        _open(tmp_path)


def test_objects_without_a_known_label_are_refused(tmp_path):
    annotated = [{"bbox": box(0.0, 0.0, 1.0, 1.0), "label": -1}]
    write_set(tmp_path, "mine", OBJECTS, [{"image": jpeg(8, 9), "objects": annotated}])
    with refused("^labels of mine train ", "^-1 and 0 more"):
        _open(tmp_path)


# Slices.


def test_splits_are_added_and_sliced(tmp_path):
    examples = [{"image": jpeg(8, width), "objects": []} for width in range(5, 15)]
    write_set(tmp_path, "mine", OBJECTS, examples)
    widths = {
        split: [record.width for record in _open(tmp_path, "mine", split).records]
        for split in ("train", "train[:30%]", "train[30%:]", "train[1:3]+train[8:]")
    }
    assert widths["train"] == widths["train[:30%]"] + widths["train[30%:]"] == list(range(5, 15))
    assert widths["train[1:3]+train[8:]"] == [6, 7, 13, 14]
    assert [_open(tmp_path, "mine", "train[30%:]").image(0).shape[1]] == [8]


@pytest.mark.parametrize("split", ["test", "train[", "", "train+test", "train[:0]"])
def test_a_split_that_is_not_there_is_said_with_those_that_are(make_set, split):
    with refused("^split '.*' of .*mine/1.0.0$") as caught:
        _open(make_set(), split=split)
    assert caught.value.expected == "one of train (2 images)"


# Images that cannot be read.


def test_an_image_of_unknown_size_is_left_out_and_counted(tmp_path):
    annotated = [{"bbox": box(0.0, 0.0, 1.0, 1.0), "label": 1}]
    images = [jpeg(8, 9), b"", b"no image", jpeg(10, 11)]
    write_set(tmp_path, "mine", OBJECTS, [{"image": image, "objects": annotated} for image in images])
    source = _open(tmp_path)
    assert [(record.image_id, record.width) for record in source.records] == [("0", 9), ("3", 11)]
    assert [source.image(index).shape[1] for index in range(2)] == [9, 11]
    assert source.report[-1] == "2 images of unknown size: left out, also from evaluation"
    assert [annotation["image_id"] for annotation in source.coco_json()["annotations"]] == ["0", "3"]


def test_a_set_without_any_image_that_can_be_read_is_refused(tmp_path):
    write_set(tmp_path, "mine", OBJECTS, [{"image": b"", "objects": []}])
    with refused("^mine train in ", "^none$"):
        _open(tmp_path)


def test_an_unreadable_image_of_known_size_stays_as_with_coco_json(make_folder, tmp_path):
    root = make_folder()
    (root / "images" / "a.png").write_bytes(b"no image")
    prepare_coco_json("mine", str(tmp_path / "tfds"), str(root), {"train": ("annotations.json", "images")})
    source = _open(tmp_path / "tfds")
    assert len(source.records) == 2
    with refused("mine/1.0.0 train: a.png$", "^8 bytes", UnreadableImageError):
        source.image(0)


def test_a_size_that_the_image_does_not_have_is_said(make_set):
    content = truth()
    content["images"][0].update(height=60, width=40)
    source = _open(make_set(content))
    with refused("a.png$", "^60 x 40$"):
        source.image(0)


def test_a_truncated_jpeg_is_used_and_warned_of_once(tmp_path, caplog):
    data = jpeg(40, 60)
    write_set(tmp_path, "mine", OBJECTS, [{"image": data[: len(data) // 2], "objects": []}])
    source = _open(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert source.image(0).shape == source.image(0).shape == (40, 60, 3)
    assert len(caplog.records) == 1
    assert "mine/1.0.0 train: 0: truncated, the missing part is grey" in caplog.text


# The index.


def test_images_are_read_once_and_then_an_index_beside_them(make_set, monkeypatch):
    data_dir = make_set()  # opens it, so the index is there
    before = _open(data_dir)
    assert len(_index_files(data_dir)) == 1
    monkeypatch.setattr(TfdsSplit, "row", None)
    after = _open(data_dir)
    assert (after.fingerprint, after.report) == (before.fingerprint, before.report)
    assert after.coco_json() == before.coco_json()


def test_the_index_goes_to_the_cache_where_the_data_are_write_protected(make_set, monkeypatch, tmp_path, caplog):
    data_dir = make_set()
    _index_files(data_dir)[0].unlink()
    save = tfds_index._save
    monkeypatch.setattr(tfds_index, "_save", lambda path, index: data_dir not in path.parents and save(path, index))
    before = _open(data_dir)
    assert _index_files(data_dir) == []
    assert len(_index_files(tmp_path / "cache" / "lga_jax")) == 1
    monkeypatch.setattr(TfdsSplit, "row", None)
    assert _open(data_dir).fingerprint == before.fingerprint
    assert caplog.text == ""


def test_where_no_index_can_be_kept_it_is_said(make_set, monkeypatch, caplog):
    data_dir = make_set()
    _index_files(data_dir)[0].unlink()
    monkeypatch.setattr(tfds_index.Path, "replace", _raise_os_error)
    assert len(_open(data_dir).records) == 2
    assert "its index cannot be written" in caplog.text
    assert [path.name for path in data_dir.rglob("index_*")] == []  # no unfinished file stays


def _raise_os_error(*_: object) -> None:
    raise OSError("no space")


@pytest.mark.parametrize("damage", [b"", b"PK\3\4 no archive", None, "method"])
def test_a_damaged_index_is_built_again(make_set, damage, caplog):
    data_dir = make_set()
    path, before = _index_files(data_dir)[0], _open(data_dir).fingerprint
    if damage is None:
        np.savez(path, image=np.arange(3))
    elif damage == "method":  # of compression: one that no reader knows
        data = bytearray(path.read_bytes())
        data[data.rindex(b"PK\1\2") + 10] = 77
        path.write_bytes(data)
    else:
        path.write_bytes(damage)
    assert _open(data_dir).fingerprint == before
    assert "damaged, built again" in caplog.text
    with np.load(path) as file:
        assert set(file) == set(tfds_index.Index._fields)


def test_nothing_in_an_index_is_unpickled(make_set, tmp_path):
    data_dir = make_set()
    path = _index_files(data_dir)[0]
    with np.load(path) as file:
        columns = dict(file)
    columns["image_id"] = np.array([_Marks(str(tmp_path / "ran"))] * 2, object)
    np.savez(path, **columns)
    assert len(_open(data_dir).records) == 2
    assert not (tmp_path / "ran").exists()


class _Marks:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (Path(self.path),)


def test_a_set_prepared_anew_gets_a_new_index_and_fingerprint(make_set, tmp_path):
    before = _open(make_set()).fingerprint
    moved = shutil.copytree(tmp_path / "tfds", tmp_path / "elsewhere")
    assert _open(moved).fingerprint == before
    shutil.rmtree(tmp_path / "tfds")
    content = truth()
    content["annotations"][0]["bbox"] = [11, 5, 20, 30]  # the files keep their sizes
    assert _open(make_set(content)).fingerprint != before


# What is not as it should be.


def test_a_set_that_is_not_there_is_said_with_the_command_that_prepares_it(make_set, tmp_path):
    data_dir = make_set()
    with refused(f"^{data_dir}$", "^mine$") as caught:
        _open(data_dir, "coco/2017:1.1.0")
    assert caught.value.remedy == f"lga_jax prepare coco/2017 --data_dir {data_dir}"
    with refused(f"^{data_dir}$", "^mine$") as caught:
        _open(data_dir, "minn")
    assert caught.value.remedy.startswith("did you mean 'mine'?")
    with refused("nowhere$", "^none$"):
        _open(tmp_path / "nowhere")


def test_the_newest_version_is_taken_unless_one_is_named(make_set):
    data_dir = make_set()
    for version in ("1.10.0", "1.9.0", "incomplete.A1B2C3_2.0.0"):
        shutil.copytree(data_dir / "mine" / "1.0.0", data_dir / "mine" / version)
    assert _open(data_dir)._split.folder.name == "1.10.0"
    assert _open(data_dir, "mine:1.9.0")._split.folder.name == "1.9.0"


def test_a_set_without_boxes_is_refused(tmp_path):
    write_set(tmp_path, "mine", {"label": tfds.features.ClassLabel(num_classes=3)}, [{"image": b"", "objects": []}])
    with refused("mine/1.0.0$", "image, objects$"):
        _open(tmp_path)


def test_boxes_in_another_format_are_refused(tmp_path):
    bbox = tfds.features.BBoxFeature(bbox_format="XYWH")
    write_set(tmp_path, "mine", {**OBJECTS, "bbox": bbox}, [{"image": b"", "objects": []}])
    with refused("mine/1.0.0$", "image, objects$"):
        _open(tmp_path)


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


FAULTS = {
    "tfrecord": (
        lambda folder: _edit(folder / "dataset_info.json", '"array_record"', '"tfrecord"'),
        "1.0.0$",
        "^tfrecord$",
    ),
    "no features": (lambda folder: (folder / "features.json").unlink(), "^metadata of .*1.0.0$", "damaged"),
    "no JSON": (lambda folder: (folder / "dataset_info.json").write_text("{"), "^metadata of ", "damaged"),
    "other JSON": (lambda folder: (folder / "features.json").write_text("[1]"), "^metadata of ", "damaged"),
    "class names": (
        lambda folder: (folder / "objects-label.labels.txt").unlink(),
        "objects-label.labels.txt$",
        "^none$",
    ),
    "category ids": (
        lambda folder: (folder / "metadata.json").write_text('{"category_ids": [1]}'),
        "train$",
        r"zip\(\) argument 2 is longer than argument 1",
    ),
    "shard missing": (
        lambda folder: next(folder.glob("*record-*")).unlink(),
        "train$",
        "No such file",
    ),
    "shard cut": (
        lambda folder: os.truncate(next(folder.glob("*record-*")), 65536),
        "train: example 0$",
        "damaged",
    ),
    "shard garbage": (
        lambda folder: next(folder.glob("*record-*")).write_bytes(b"\xa5" * 200_000),
        "train: example 0$",
        "Corrupted",
    ),
    "shard short": (
        lambda folder: _edit(folder / "dataset_info.json", '"2"', '"3"'),
        "train: example 2$",
        "index 2 out of bound 2",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_is_said_in_one_line(make_set, fault):
    spoil, subject, found = FAULTS[fault]
    data_dir = make_set()
    _index_files(data_dir)[0].unlink()
    spoil(data_dir / "mine" / "1.0.0")
    with refused(subject, found):
        _open(data_dir)


def test_damage_behind_a_sound_index_is_said_where_it_is_met(make_set):
    data_dir = make_set()
    source = _open(data_dir)
    os.truncate(next((data_dir / "mine" / "1.0.0").glob("*record-*")), 65536)
    with refused("train: example 1$", "damaged"):
        source.image(1)


@pytest.mark.parametrize("nested", [False, True])
def test_no_module_that_the_data_name_is_imported(make_set, tmp_path, monkeypatch, nested):
    (tmp_path / "harmful.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    data_dir = make_set()
    path = data_dir / "mine" / "1.0.0" / "features.json"
    content = json.loads(path.read_text())
    features = content["featuresDict"]["features"]
    if nested:  # the older form, JSON within JSON
        harmful = {"type": "harmful.Feature", "content": {}}
        features["image/filename"] = {
            "pythonClassName": "tensorflow_datasets.core.features.sequence_feature.Sequence",
            "jsonFeature": {"json": json.dumps({"feature": harmful, "length": None})},
        }
    else:
        features["image/filename"]["pythonClassName"] = "harmful.Feature"
    path.write_text(json.dumps(content))
    with refused("features.json$", "'harmful.Feature'"):
        _open(data_dir)
