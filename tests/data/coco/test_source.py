import contextlib
import copy
import io
import json
import logging
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lga_jax.data.coco.source import CocoJson
from lga_jax.data.source import Source, UnreadableImageError
from lga_jax.errors import UserError
from tests.data.conftest import mutate, truth


def _open(root: Path) -> CocoJson:
    return CocoJson(str(root), "annotations.json", "images", skip_empty=False)


def _pycocotools(content: dict) -> COCO:
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def test_reads_a_folder_known_by_heart(make_folder):
    source = _open(make_folder())
    assert isinstance(source, Source)
    assert source.class_names == ("car", "train", "toothbrush")  # by ascending id
    first, second = source.records
    assert (first.image_id, first.height, first.width) == (11, 40, 60)
    np.testing.assert_array_equal(first.boxes_original, [[10, 5, 30, 35], [50.5, 30, 60, 40], [0, 0, 60, 40]])
    np.testing.assert_array_equal(first.labels, [2, 0, 1])
    np.testing.assert_array_equal(first.crowd, [False, False, True])
    assert (second.image_id, second.boxes_original.shape) == (5, (0, 4))
    assert [first.boxes_original.dtype, first.labels.dtype, first.crowd.dtype] == [np.float32, np.int32, bool]


def test_reports_what_it_counted(make_folder):
    root = make_folder()
    assert _open(root).report == [
        f"{root / 'annotations.json'}: 2 images, 3 boxes, 3 classes",
        "1 images without boxes to train on: kept as background",
        "1 crowd boxes: ignored in training, kept for evaluation",
        "2 degenerate boxes (no area, nan or infinity): left out",
        "2 boxes outside their image: left out",
    ]


def test_images_are_rgb(make_folder):
    root = make_folder()
    image = _open(root).image(1)
    assert image.shape == (50, 30, 3)
    np.testing.assert_array_equal(image[..., ::-1], cv2.imread(str(root / "images" / "b.png")))


def test_ground_truth_is_complete_for_pycocotools(make_folder):
    content = _open(make_folder()).truth()
    assert content["info"] == {}
    assert content["images"] == truth()["images"]
    assert [a["id"] for a in content["annotations"]] == [1, 2, 3]
    assert [a["area"] for a in content["annotations"]] == [600, 123.5, 2400]
    assert [a["iscrowd"] for a in content["annotations"]] == [0, 0, 1]
    assert content["annotations"][1]["bbox"] == [50.5, 30, 20, 20]  # as annotated, not as clipped for training


@pytest.mark.parametrize("name_of", [int, str])
def test_perfect_detections_score_one(make_folder, name_of):
    content = truth()
    for image in content["images"]:
        image["id"] = name_of(image["id"])
    for annotation in content["annotations"]:
        annotation["image_id"] = name_of(annotation["image_id"])
    ground_truth = _open(make_folder(content)).truth()
    found = [{**a, "score": 0.9} for a in copy.deepcopy(ground_truth["annotations"]) if not a["iscrowd"]]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = _pycocotools(ground_truth)
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    np.testing.assert_allclose(evaluation.stats[:3], 1)


def test_the_fingerprint_follows_the_annotations_and_nothing_else(make_folder):
    root = make_folder()
    before = _open(root)
    moved = root.rename(root.with_name("elsewhere"))
    assert _open(moved).fingerprint == before.fingerprint
    content = truth()
    content["annotations"].pop()
    (moved / "annotations.json").write_text(json.dumps(content))
    assert _open(moved).fingerprint != before.fingerprint


def test_a_file_that_changes_under_the_run_is_noticed(make_folder):
    root = make_folder()
    source = _open(root)
    (root / "annotations.json").write_text(json.dumps(truth(), indent=1))
    with pytest.raises(UserError) as caught:
        source.truth()
    assert caught.value.subject == str(root / "annotations.json")


def test_no_annotations_at_all_are_background(make_folder):
    source = _open(make_folder({**truth(), "annotations": []}))
    assert [record.boxes_original.shape for record in source.records] == [(0, 4), (0, 4)]
    assert source.report[1:] == ["2 images without boxes to train on: kept as background"]


def test_images_without_boxes_to_train_on_are_skipped_if_asked(make_folder):
    content = truth()
    content["images"].insert(1, {"id": 8, "file_name": "a.png", "height": 40, "width": 60})
    content["annotations"].append({"id": 6, "image_id": 8, "category_id": 3, "bbox": [0, 0, 60, 40], "iscrowd": 1})
    content["images"].append({"id": 9, "file_name": "b.png", "height": 50, "width": 30})
    content["annotations"].append({"id": 7, "image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4]})
    root = make_folder(content)
    source = CocoJson(str(root), "annotations.json", "images", skip_empty=True)
    assert [record.image_id for record in source.records] == [11, 9]  # 8 has a crowd only, 5 boxes without an area
    assert [source.image(number).shape[:2] for number in range(2)] == [(40, 60), (50, 30)]
    assert source.report[0].endswith("4 images, 5 boxes, 3 classes")
    assert source.report[1] == "2 images without boxes to train on: left out"
    assert [image["id"] for image in source.truth()["images"]] == [11, 8, 5, 9]
    assert len(_open(root).records) == 4


def test_nothing_to_train_on_is_said(make_folder):
    root = make_folder({**truth(), "annotations": []})
    with pytest.raises(UserError) as caught:
        CocoJson(str(root), "annotations.json", "images", skip_empty=True)
    assert (caught.value.subject, caught.value.found) == (str(root / "annotations.json"), "none among 2")


def test_class_names_that_repeat_get_their_ids(make_folder):
    content = truth()
    content["categories"][0]["name"] = "car"
    source = _open(make_folder(content))
    assert source.class_names == ("car (3)", "train", "car (90)")
    assert [category["name"] for category in source.truth()["categories"]] == ["car (90)", "car (3)", "train"]


def test_class_names_made_different_are_so_from_all_others(make_folder):
    content = truth()
    for category, name in zip(content["categories"], ("car (3)", "car", "car"), strict=True):
        category["name"] = name
    assert _open(make_folder(content)).class_names == ("car (3) (3)", "car (7)", "car (3) (90)")


def test_a_box_too_thin_for_float32_is_degenerate(make_folder):
    content = truth()
    content["annotations"] = [{"image_id": 11, "category_id": 3, "bbox": [50, 5, 1e-9, 5]}]
    source = _open(make_folder(content))
    assert source.report[-1].startswith("1 degenerate")
    assert source.truth()["annotations"] == []


def _without(key: str):
    return lambda t: t.pop(key)


def _in(section: str, position: int, **values: object):
    return lambda t: t[section][position].update(values)


def _in_without(section: str, position: int, key: str):
    return lambda t: t[section][position].pop(key)


# What spoils the file, the subject of the error within the file, and a part of what it says was found.
FAULTS = {
    "no images key": (_without("images"), "", "'images'"),
    "no categories key": (_without("categories"), "", "'categories'"),
    "no annotations key": (_without("annotations"), "", "'annotations'"),
    "no images": (lambda t: t.update(images=[], annotations=[]), "images", "none"),
    "no categories": (lambda t: t.update(categories=[], annotations=[]), "categories", "none"),
    "images no list": (lambda t: t.update(images={}), "images", "{}"),
    "image no object": (lambda t: t["images"].append(3), "images[2]", "3"),
    "info no object": (lambda t: t.update(info="x"), "info", "'x'"),
    "image without height": (_in_without("images", 1, "height"), "images[1]", "['id', 'file_name', 'width']"),
    "height zero": (_in("images", 1, height=0), "images[1]", "[0, 30]"),
    "height text": (_in("images", 1, height="50"), "images[1]", "['50', 30]"),
    "height not whole": (_in("images", 1, height=49.5), "images[1]", "[49.5, 30]"),
    "height infinite": (_in("images", 1, height=float("inf")), "images[1]", "[inf, 30]"),
    "image too large": (_in("images", 0, height=20_000, width=20_000), "images[0]", "[20000, 20000]"),
    "image id twice": (_in("images", 1, id=11), "ids of images", "[11]"),
    "image id beyond 64 bits": (
        lambda t: [t["images"][1].update(id=2**63), t["annotations"][5].update(image_id=2**63)],
        "images[1].id",
        "9223372036854775808",
    ),
    "category id beyond 64 bits": (_in("categories", 1, id=-(10**30)), "categories[1].id", f"-{10**30}"),
    "image id a list": (_in("images", 0, id=[1]), "images[0].id", "[1]"),
    "image ids mixed": (_in("images", 1, id="5"), "images[1].id", "'5'"),
    "file name a number": (_in("images", 0, file_name=3), "images[0].file_name", "3"),
    "file name that climbs": (
        _in("images", 1, file_name="x/../../b.png"),
        "images[1].file_name",
        "'x/../../b.png'",
    ),
    "file name from the root": (_in("images", 0, file_name="/dev/zero"), "images[0].file_name", "'/dev/zero'"),
    "category id twice": (_in("categories", 1, id=90), "ids of categories", "[90]"),
    "category id text": (_in("categories", 1, id="3"), "categories[1].id", "'3'"),
    "file name of another computer": (
        _in("images", 0, file_name="/photos/a.png"),
        "images[0].file_name",
        "'/photos/a.png'",
    ),
    "file name a URL": (_in("images", 0, file_name="http://x/a.png"), "images[0].file_name", "'http://x/a.png'"),
    "category name number": (_in("categories", 1, name=3), "categories[1].name", "3"),
    "category unknown": (
        lambda t: [a.update(category_id=8) for a in t["annotations"][:2]],
        "category_id of annotations",
        "2 of 7 annotations: 8",
    ),
    "image unknown": (
        lambda t: [a.update(image_id=100 + i) for i, a in enumerate(t["annotations"])],
        "image_id of annotations",
        "7 of 7 annotations: 100, 101, 102, 103, 104 and 2 more",
    ),
    "category true": (
        _in("annotations", 0, category_id=True),
        "category_id of annotations",
        "1 of 7 annotations: True",
    ),
    "bbox of three": (_in("annotations", 3, bbox=[1, 2, 3]), "annotations[3].bbox", "[1, 2, 3]"),
    "bbox of text": (_in("annotations", 3, bbox=["1", 2, 3, 4]), "annotations[3].bbox", "['1', 2, 3, 4]"),
    "bbox empty": (_in("annotations", 3, bbox=[]), "annotations[3].bbox", "[]"),
    "bbox null": (_in("annotations", 3, bbox=None), "annotations[3].bbox", "None"),
    "bbox beyond float": (_in("annotations", 3, bbox=[10**400, 0, 1, 1]), "annotations[3].bbox", "[1000"),
    "no bbox": (_in_without("annotations", 3, "bbox"), "annotations[3]", "'category_id'"),
    "iscrowd two": (_in("annotations", 3, iscrowd=2), "annotations[3].iscrowd", "2"),
    "area text": (_in("annotations", 3, area="big"), "annotations[3].area", "'big'"),
    "image missing": (_in("images", 0, file_name="c.png"), "files", "1 of 2 missing, first 'c.png'"),
    "image nowhere": (_in("images", 0, file_name="no/a\0.png"), "files", r"1 of 2 missing, first 'no/a\x00.png'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_annotations_is_one_line_about_its_place(make_folder, fault):
    spoil, subject, found = FAULTS[fault]
    content = truth()
    spoil(content)
    root = make_folder(content)
    with pytest.raises(UserError) as caught:
        _open(root)
    assert caught.value.subject.startswith((str(root / "annotations.json"), f"image folder {root / 'images'}"))
    assert caught.value.subject.endswith(subject and f": {subject}")
    assert found in caught.value.found
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_not_in_utf_8_is_said(make_folder):
    root = make_folder()
    text = json.dumps(truth(), ensure_ascii=False).replace("car", "voilà")
    (root / "annotations.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError) as caught:
        _open(root)
    assert caught.value.subject == str(root / "annotations.json")
    assert "utf-8" in caught.value.found and "UTF-8" in caught.value.remedy


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00", '{"images": ' + "9" * 5000 + "}"])
def test_what_is_not_json_is_said(make_folder, text):
    root = make_folder(text)
    with pytest.raises(UserError) as caught:
        _open(root)
    assert (caught.value.subject, caught.value.expected) == (str(root / "annotations.json"), "COCO JSON")


def test_json_of_another_kind_is_said(make_folder):
    root = make_folder([])
    with pytest.raises(UserError) as caught:
        _open(root)
    assert (caught.value.subject, caught.value.found) == (str(root / "annotations.json"), "[]")


@pytest.mark.parametrize(
    ("arguments", "kind", "path"),
    [
        (("nowhere", "annotations.json", "images"), "data root", "nowhere"),
        ((".", "instances.json", "images"), "annotation file", "instances.json"),
        ((".", "images", "images"), "annotation file", "images"),
        ((".", "annotations.json", "train2017"), "image folder", "train2017"),
    ],
)
def test_a_missing_file_or_folder_is_named(make_folder, arguments, kind, path):
    root = make_folder()
    with pytest.raises(UserError) as caught:
        CocoJson(str(root / arguments[0]), *arguments[1:], skip_empty=False)
    assert caught.value.subject == f"{kind} {root / path}"


def test_annotations_that_may_not_be_read_are_said(make_folder, monkeypatch):
    root = make_folder()

    def read_bytes(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", read_bytes)  # root may read all files
    with pytest.raises(UserError) as caught:
        _open(root)
    assert caught.value.subject == f"annotation file {root / 'annotations.json'}"
    assert caught.value.found == "Permission denied"


def test_the_root_may_begin_at_home(make_folder, monkeypatch):
    root = make_folder()
    monkeypatch.setenv("HOME", str(root.parent))
    assert _open(Path("~", root.name)).image(0).shape == (40, 60, 3)
    with pytest.raises(UserError) as caught:
        _open(Path("~nobody-of-that-name"))
    assert caught.value.subject == "data root ~nobody-of-that-name"


def test_links_in_the_folder_are_followed_and_devices_are_not_read(make_folder):
    root = make_folder()
    (root / "images" / "b.png").rename(root / "elsewhere.png")
    (root / "images" / "b.png").symlink_to(root / "elsewhere.png")
    (root / "images" / "a.png").unlink()
    os.mkfifo(root / "images" / "a.png")
    source = _open(root)
    assert source.image(1).shape == (50, 30, 3)
    with pytest.raises(UserError) as caught:
        source.image(0)
    assert caught.value.subject == str(root / "images" / "a.png")


def test_a_size_that_the_file_does_not_have_is_said(make_folder):
    content = truth()
    content["images"][0].update(height=60, width=40)
    source = _open(make_folder(content))
    with pytest.raises(UserError) as caught:
        source.image(0)
    assert caught.value.subject.endswith("a.png")
    assert caught.value.expected.startswith("40 x 60 pixels") and caught.value.found == "60 x 40"


def test_a_truncated_jpeg_is_used_and_warned_of_once(make_folder, caplog):
    root = make_folder()
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 255, (5, 6, 3), np.uint8), (60, 40))
    data = cv2.imencode(".jpg", smooth)[1].tobytes()
    (root / "images" / "a.png").write_bytes(data[: len(data) // 2])  # the content decides the format, not the name
    source = _open(root)
    with caplog.at_level(logging.WARNING):
        first, second = source.image(0), source.image(0)
    np.testing.assert_array_equal(first, second)
    assert [record.getMessage() for record in caplog.records] == [
        f"{root / 'images' / 'a.png'}: truncated, the missing part is grey (1 such files so far)"
    ]


@pytest.mark.parametrize(
    ("data", "found"), [(b"", "0 bytes"), (b"version https://git-lfs.github.com/spec/v1\n", "lfs")]
)
def test_an_unreadable_image_is_named_with_what_it_is(make_folder, data, found):
    root = make_folder()
    (root / "images" / "a.png").write_bytes(data)
    with pytest.raises(UnreadableImageError) as caught:
        _open(root).image(0)
    assert caught.value.subject.endswith("a.png") and found in caught.value.found


def test_ids_and_names_that_a_tool_wrote_differently_are_read_and_reported(make_folder):
    root = make_folder()
    plain = _open(root)
    content = truth()
    for annotation in content["annotations"]:
        annotation.update(image_id=str(annotation["image_id"]), category_id=float(annotation["category_id"]))
    content["images"][0]["file_name"] = r"C:\work\images\a.PNG"
    source = _open(make_folder(content))
    assert source.paths == plain.paths and source.class_names == plain.class_names
    assert [record.image_id for record in source.records] == [11, 5]
    assert [record.labels.tolist() for record in source.records] == [[2, 0, 1], []]
    np.testing.assert_array_equal(source.image(0), plain.image(0))
    assert len(source.report) == len(plain.report) + 3
    assert source.report[1].startswith("7 category_id of annotations") and "'11' is 11" in source.report[2]
    assert source.report[3].startswith("1 file name") and "'a.png'" in source.report[3]
    assert [a["image_id"] for a in source.truth()["annotations"]] == [11, 11, 11]


def test_an_image_that_vanished_is_an_error_not_a_grey_image(make_folder):
    root = make_folder()
    source = _open(root)
    (root / "images" / "a.png").unlink()
    with pytest.raises(UserError) as caught:
        source.image(0)
    assert caught.value.subject.endswith("a.png") and caught.value.found == "No such file or directory"
    assert not isinstance(caught.value, UnreadableImageError)


_NUM_MUTANTS = max(200, settings().max_examples)  # `make fuzz` has 5,000


@settings(max_examples=_NUM_MUTANTS)
@given(data=st.data())
def test_a_mutated_file_is_read_or_refused_in_one_line(tmp_path_factory, data):
    content = truth()
    mutate(data, content)
    _check_mutant(tmp_path_factory.getbasetemp() / "mutants", json.dumps(content).encode())


@settings(max_examples=_NUM_MUTANTS)
@given(place=st.integers(0), new=st.binary(max_size=3), gone=st.integers(0, 3), keep=st.none() | st.integers(0))
def test_a_file_of_which_bytes_changed_is_read_or_refused_in_one_line(tmp_path_factory, place, new, gone, keep):
    text = json.dumps(truth()).encode()
    place %= len(text)
    text = text[:place] + new + text[place + gone :]
    _check_mutant(tmp_path_factory.getbasetemp() / "mutants", text if keep is None else text[: keep % len(text)])


def _check_mutant(root: Path, text: bytes) -> None:
    (root / "images").mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "b.png"):
        (root / "images" / name).touch()
    (root / "annotations.json").write_bytes(text)
    try:
        source = _open(root)
    except UserError as error:
        refusal = str(error)
    else:
        _check_sound(source)
        return
    assert len(refusal.splitlines()) == 1


def _check_sound(source: CocoJson) -> None:
    for record in source.records:
        x1, y1, x2, y2 = record.boxes_original.T
        assert ((x1 >= 0) & (x1 < x2) & (x2 <= record.width)).all()
        assert ((y1 >= 0) & (y1 < y2) & (y2 <= record.height)).all()
        assert ((record.labels >= 0) & (record.labels < len(source.class_names))).all()
    _pycocotools(source.truth())


# Real sets, where they are.

_SHARED = Path(os.environ.get("LGA_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.mark.parametrize(
    ("root", "annotations", "images", "num_images", "num_boxes", "num_crowds"),
    [
        ("bccd", "trainval.json", "images", 292, 3941, 0),
        ("bccd", "test.json", "images", 72, 945, 0),
        ("neu_det", "train.json", "images", 1440, 3335, 0),
        ("coco_tiny80", "instances_train2017.json", "train2017", 80, 705, 6),
        ("coco_tiny80", "instances_val2017.json", "val2017", 80, 815, 11),
    ],
)
def test_real_sets_are_read_completely(root, annotations, images, num_images, num_boxes, num_crowds):
    if not (_SHARED / root).is_dir():
        pytest.skip(f"no data set at {_SHARED / root}; LGA_SHARED_DATA names another place")
    source = CocoJson(str(_SHARED / root), f"annotations/{annotations}", images, skip_empty=False)
    assert len(source.records) == num_images
    assert sum(len(record.labels) for record in source.records) == num_boxes
    assert sum(int(record.crowd.sum()) for record in source.records) == num_crowds
    assert len(source.truth()["annotations"]) == num_boxes
    for index in range(0, num_images, 16):
        source.image(index)
