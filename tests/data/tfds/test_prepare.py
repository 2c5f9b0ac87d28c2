import io
import json
import socket
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import extractor

from lga_jax.data.tfds import prepare
from lga_jax.data.tfds.prepare import prepare_coco_json, prepare_official
from lga_jax.data.tfds.source import TfdsSource
from tests.data import lvis_folder
from tests.data.conftest import truth
from tests.data.tfds_sets import COCO_URL, coco_archives, jpeg, taken_for_official, voc_archives
from tests.faults import refused

PLACES = {"train": ("annotations.json", "images")}
VOC = {"000005": [dict(name="car", difficult=0, xmin=1, ymin=1, xmax=60, ymax=40)]}


def _coco(num_images: int) -> tuple[str, dict[str, bytes]]:
    """A split of coco/2017 with its 80 categories: an image each, a box in each."""
    names = [f"{number:012d}.jpg" for number in range(num_images)]
    ids = [number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
    content = {
        "images": [
            {"id": 500 + number, "file_name": name, "height": 20, "width": 30 + number}
            for number, name in enumerate(names)
        ],
        "categories": [{"id": number, "name": f"class {number}"} for number in ids],
        "annotations": [
            {"id": 7, "image_id": 500 + number, "category_id": 90, "bbox": [1.25, 2, 8, 9], "area": 33.3, "iscrowd": 0}
            for number in range(num_images)
        ],
    }
    return json.dumps(content), {name: jpeg(20, 30 + number) for number, name in enumerate(names)}


@pytest.fixture
def coco(tmp_path: Path) -> dict[str, Path]:
    return coco_archives(tmp_path / "archives", {"train": _coco(3), "val": _coco(2)})


# Official sets.


def test_the_official_coco_is_prepared_from_archives(coco, tmp_path):
    with taken_for_official("coco", coco):
        report = prepare_official("coco/2017", str(tmp_path / "tfds"), str(tmp_path / "archives"))
    assert report[:2] == [
        f"coco/2017 train in {tmp_path / 'tfds'}: 3 images, 3 boxes, 80 classes",
        f"coco/2017 validation in {tmp_path / 'tfds'}: 2 images, 2 boxes, 80 classes",
    ]
    source = TfdsSource("coco/2017", str(tmp_path / "tfds"), "train", skip_empty=False)
    assert sorted((record.image_id, record.width) for record in source.records) == [(500, 30), (501, 31), (502, 32)]
    assert {annotation["category_id"] for annotation in source.truth()["annotations"]} == {90}
    assert {annotation["area"] for annotation in source.truth()["annotations"]} == {33.5}
    np.testing.assert_allclose(source.records[0].boxes_original, [[1.25, 2, 9.25, 11]], atol=1e-5)


def test_a_set_that_is_there_is_left_alone_and_archives_are_not_unpacked_again(coco, tmp_path):
    with (
        taken_for_official("coco", coco),
        mock.patch.object(extractor, "iter_archive", wraps=extractor.iter_archive) as r,
    ):
        first = prepare_official("coco/2017", str(tmp_path / "tfds"), str(tmp_path / "archives"))
        assert r.call_count == 5
        assert prepare_official("coco/2017", str(tmp_path / "tfds")) == first
        (tmp_path / "tfds" / "coco" / "2017").rename(tmp_path / "moved")
        assert prepare_official("coco/2017", str(tmp_path / "tfds"), str(tmp_path / "archives")) == first
        assert r.call_count == 5


def test_a_set_prepared_in_another_format_is_not_read(coco, tmp_path):
    with taken_for_official("coco", coco):
        prepare_official("coco/2017", str(tmp_path / "tfds"), str(tmp_path / "archives"))
        path = tmp_path / "tfds" / "coco" / "2017" / "1.1.0" / "dataset_info.json"
        path.write_text(path.read_text().replace('"array_record"', '"tfrecord"'))
        with refused(r"coco/2017/1.1.0$", "^tfrecord$"):
            prepare_official("coco/2017", str(tmp_path / "tfds"), str(tmp_path / "archives"))


def test_an_interrupted_preparation_leaves_nothing_that_passes_for_a_set(coco, tmp_path):
    coco_class = tfds.builder_cls("coco")
    with (
        taken_for_official("coco", coco),
        mock.patch.object(coco_class, "_generate_examples", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        prepare_official("coco/2017", str(tmp_path / "tfds"), str(tmp_path / "archives"))
    with refused("tfds$", "^none$"):
        TfdsSource("coco/2017", str(tmp_path / "tfds"), "train", skip_empty=False)


def test_an_archive_with_another_checksum_is_refused(coco, tmp_path):
    coco_archives(tmp_path / "others", {"train": _coco(4), "val": _coco(2)})
    with (
        taken_for_official("coco", coco),
        refused("^coco/2017$", f"{COCO_URL}/"),
    ):
        prepare_official("coco/2017", str(tmp_path / "tfds"), str(tmp_path / "others"))


def test_a_damaged_archive_is_said(coco, tmp_path):
    (tmp_path / "archives" / "val2017.zip").write_bytes(b"no archive")
    with taken_for_official("coco", coco), refused("^coco/2017$", "val2017.zip"):
        prepare_official("coco/2017", str(tmp_path / "tfds"), str(tmp_path / "archives"))


def test_without_network_it_is_said_in_seconds(tmp_path, monkeypatch, caplog):
    def no_address(*args: object) -> None:
        raise OSError("no address for a name")

    waits = []
    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    monkeypatch.setattr(time, "sleep", waits.append)
    with refused("^voc/2007$", "^HTTPSConnectionPool"):
        prepare_official("voc/2007", str(tmp_path / "tfds"))
    assert 0 < sum(waits) < 20  # seconds, of all downloads
    assert "Retrying" not in caplog.text


def test_without_network_the_way_round_it_is_said(tmp_path):
    archives = voc_archives(tmp_path / "archives", "2007", VOC)
    with taken_for_official("voc", archives), refused("^voc/2007$", "^no network$") as caught:
        prepare_official("voc/2007", str(tmp_path / "tfds"))
    assert "--manual_dir" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("coco/2071", "the nearest: coco/2017, coco/2014, coco/2017_panoptic"),
        ("coco", "the nearest: coco/2017, coco/2014"),
        ("open_images", "the nearest: open_images_v4"),
        ("voc/2007:5.0.0", "the nearest: voc/2007, voc/2012"),
        ("../voc", "the nearest: voc"),
        ("mnist/small", "the nearest: mnist"),
        ("qqqqqqqqqqqqqqq", "see https://www.tensorflow.org/datasets/catalog"),
    ],
)
def test_unknown_names_are_said_with_the_nearest(tmp_path, name, remedy):
    with refused(f"^{name}$") as caught:
        prepare_official(name, str(tmp_path))
    assert caught.value.remedy.startswith(remedy)


def test_a_set_of_another_task_is_refused_before_it_is_downloaded(tmp_path):
    with refused("^mnist$", "image, label$"):
        prepare_official("mnist", str(tmp_path))


def test_what_a_preparation_needs_is_said(tmp_path):
    voc = sys.modules[tfds.builder_cls("voc").__module__]

    def needs_tensorflow(*_: object) -> None:
        voc.tf.data.Dataset.range(3)

    archives = voc_archives(tmp_path / "archives", "2007", VOC)
    with (
        taken_for_official("voc", archives),
        mock.patch("importlib.util.find_spec", return_value=None),
        mock.patch.object(tfds.builder_cls("voc"), "_split_generators", needs_tensorflow),
        refused("^voc/2007$") as caught,
    ):
        prepare_official("voc/2007", str(tmp_path / "tfds"), str(tmp_path / "archives"))
    assert caught.value.remedy == "pip install tensorflow"


# COCO-JSON folders.


def test_boxes_beyond_their_image_are_clipped_and_counted(make_folder, tmp_path):
    report = prepare_coco_json("mine", str(tmp_path / "tfds"), str(make_folder()), PLACES)
    assert report[-1] == "1 boxes reach beyond their image: clipped, because TFDS requires it"


def test_images_are_kept_byte_for_byte(make_folder, tmp_path):
    root = make_folder()
    prepare_coco_json("mine", str(tmp_path / "tfds"), str(root), PLACES)
    builder = tfds.builder_from_directory(tmp_path / "tfds" / "mine" / "1.0.0")
    examples = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    for example, name in zip(examples, ("a.png", "b.png"), strict=True):
        assert example["image"] == (root / "images" / name).read_bytes()


def test_examples_have_the_features_of_official_coco(make_folder, coco, tmp_path):
    with taken_for_official("coco", coco):
        prepare_official("coco/2017", str(tmp_path / "tfds"), str(tmp_path / "archives"))
    prepare_coco_json("mine", str(tmp_path / "tfds"), str(make_folder()), PLACES)
    official, own = (
        tfds.builder_from_directory(tmp_path / "tfds" / folder).info.features
        for folder in ("coco/2017/1.1.0", "mine/1.0.0")
    )
    assert set(own) - set(official) == {"image/height", "image/width"}
    assert set(official) <= set(own)
    assert set(own["objects"].feature) == set(official["objects"].feature)


def test_splits_share_a_set(make_folder, tmp_path):
    root = make_folder()
    content = truth()
    content["images"] = content["images"][1:]
    content["annotations"] = content["annotations"][-1:]
    (root / "held_out.json").write_text(json.dumps(content))
    places = {**PLACES, "validation": ("held_out.json", "images")}
    report = prepare_coco_json("mine", str(tmp_path / "tfds"), str(root), places)
    assert [line.split(" in ")[0] for line in report if " classes" in line] == ["mine train", "mine validation"]
    source = TfdsSource("mine", str(tmp_path / "tfds"), "validation", skip_empty=False)
    assert [record.image_id for record in source.records] == [5]


@pytest.mark.parametrize("key", ["categories", "images"])
def test_splits_that_do_not_fit_together_are_refused(make_folder, tmp_path, key):
    root = make_folder()
    content = {**truth(), "annotations": []}
    content[key][0].update({"name": "bus"} if key == "categories" else {})
    if key == "images":
        content["images"] = [{**image, "id": str(image["id"])} for image in content["images"]]
    (root / "held_out.json").write_text(json.dumps(content))
    places = {**PLACES, "validation": ("held_out.json", "images")}
    with refused("^split 'validation'$"):
        prepare_coco_json("mine", str(tmp_path / "tfds"), str(root), places)
    assert not (tmp_path / "tfds" / "mine" / "1.0.0").exists()


def test_a_file_with_lists_of_verified_classes_is_refused(tmp_path):
    lvis_folder.write(tmp_path)
    with refused("split 'train'"):
        prepare_coco_json("mine", str(tmp_path / "tfds"), str(tmp_path), {"train": ("lvis.json", "")})
    assert not (tmp_path / "tfds" / "mine").exists()


def test_a_set_of_that_name_is_not_overwritten(make_folder, tmp_path):
    root = make_folder()
    prepare_coco_json("mine", str(tmp_path / "tfds"), str(root), PLACES)
    with refused("mine/1.0.0$"):
        prepare_coco_json("mine", str(tmp_path / "tfds"), str(root), PLACES)


def test_a_place_that_cannot_be_written_to_is_said(make_folder, tmp_path):
    (tmp_path / "tfds").write_text("a file")
    with refused("tfds$") as caught:
        prepare_coco_json("mine", str(tmp_path / "tfds"), str(make_folder()), PLACES)
    assert caught.value.remedy == "name another folder"


@pytest.mark.parametrize(
    ("name", "split"), [("Mine", "train"), ("my/set", "train"), ("../x", "train"), ("mine", "a b")]
)
def test_names_that_no_file_should_have_are_refused(make_folder, tmp_path, name, split):
    with refused("^name of a data set or split$", "^'(Mine|my/set|../x|a b)'$"):
        prepare_coco_json(name, str(tmp_path / "tfds"), str(make_folder()), {split: PLACES["train"]})


def test_the_word_for_all_splits_is_no_name_of_one(make_folder, tmp_path):
    with refused("^name of a split$", "^'all'$"):
        prepare_coco_json("mine", str(tmp_path / "tfds"), str(make_folder()), {"all": PLACES["train"]})


def test_a_name_that_utf_8_cannot_hold_is_refused(make_folder, tmp_path):
    content = truth()
    content["categories"][0]["name"] = "\ud800"
    with refused("", "ud800"):
        prepare_coco_json("mine", str(tmp_path / "tfds"), str(make_folder(content)), PLACES)


def test_ids_of_64_bits_are_kept(make_folder, tmp_path):
    content = truth()
    content["images"][0]["id"] = 2**63 - 1
    for annotation in content["annotations"]:
        annotation["image_id"] = {11: 2**63 - 1}.get(annotation["image_id"], 5)
    prepare_coco_json("mine", str(tmp_path / "tfds"), str(make_folder(content)), PLACES)
    source = TfdsSource("mine", str(tmp_path / "tfds"), "train", skip_empty=False)
    assert [record.image_id for record in source.records] == [2**63 - 1, 5]


def test_what_a_killed_preparation_left_is_named_and_kept(make_folder, tmp_path):
    tfds_dir = tmp_path / "t fds"
    for name in ("mine/incomplete.A1B2C3_1.0.0", "coco/2017/incomplete.A1B2C3_1.1.0", "downloads/x.zip.tmp.0a"):
        (tfds_dir / name).mkdir(parents=True)
        (tfds_dir / name / "shard").write_bytes(bytes(3 * 2**20))
    assert prepare.find_leftovers(str(tmp_path / "nowhere")) == []
    lines = prepare.find_leftovers(str(tfds_dir))
    assert len(lines) == 3
    folder = tfds_dir / "mine" / "incomplete.A1B2C3_1.0.0"
    assert lines[2].startswith(f"{folder}: 3.0 MiB ")
    assert lines[2].endswith(f" rm -r '{folder}'")
    prepare_coco_json("mine", str(tfds_dir), str(make_folder()), PLACES)
    assert prepare.find_leftovers(str(tfds_dir)) == lines


@pytest.mark.parametrize("name", ["two\nlines", " ", "", "end "])
def test_class_names_that_tfds_cannot_keep_are_refused(make_folder, tmp_path, name):
    content = truth()
    content["categories"][0]["name"] = name
    with refused("^class names$") as caught:
        prepare_coco_json("mine", str(tmp_path / "tfds"), str(make_folder(content)), PLACES)
    assert caught.value.found == repr(name)


def test_faults_of_the_folder_are_told_as_coco_json_tells_them(make_folder, tmp_path):
    with refused("^annotation file .*nowhere.json$"):
        prepare_coco_json("mine", str(tmp_path), str(make_folder()), {"train": ("nowhere.json", "images")})


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_cannot_write_outside_their_folder(tmp_path, kind):
    """TFDS unpacks archives; it skips such names and writes no links."""
    path, names = tmp_path / f"archive.{kind}", ["fine/a", "../out", "/abs", "a/../../out", "link/b"]
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"x")
        method = tfds.download.resource.ExtractMethod.ZIP
    else:
        with tarfile.open(path, "w") as archive:
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc"
            archive.addfile(link)
            for name in names:
                archive.addfile(tarfile.TarInfo(name), io.BytesIO())
        method = tfds.download.resource.ExtractMethod.TAR
    with prepare._standing_in_for_tensorflow(ModuleType("none")):
        assert [name for name, _ in extractor.iter_archive(path, method)] == ["fine/a", "link/b"]
