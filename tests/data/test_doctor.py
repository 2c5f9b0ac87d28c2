"""The doctor on a set that has every fault at once, on mutants, and on real sets."""

import copy
import io
import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict
from PIL import Image

from lga_jax.data.coco_json import CocoJson
from lga_jax.data.doctor import Report, examine, glance
from lga_jax.data.findings import KINDS
from lga_jax.data.records import open_source
from lga_jax.errors import UserError
from lga_jax.visualization.doctor_report import doctor_html, format_report, report_json
from tests.data.conftest import mutate, truth

HW = (40, 60)


def _config(root: Path, annotations: str = "annotations.json", eval_annotations: str | None = None) -> ConfigDict:
    part = dict(source="coco_json", root=str(root), images="images", skip_empty=False)
    return ConfigDict(
        dict(
            train=dict(part, annotations=annotations),
            eval=dict(part, annotations=eval_annotations or annotations),
            max_boxes=4,
            num_workers=2,
        )
    )


def _found(report: Report, part: str = "data.train") -> dict[str, list[str]]:
    return {finding.kind: finding.names for finding in report.checkups[part].findings}


def _photo(seed: int, hw: tuple[int, int] = HW) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 255, (4, 6, 3), np.uint8)
    return cv2.resize(small, hw[::-1], interpolation=cv2.INTER_CUBIC)


def _encoded(image: np.ndarray, kind: str, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def _turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _bomb() -> bytes:
    header = bytearray(_encoded(_photo(0, (1, 1)), "BMP"))
    header[18:26] = (20_000).to_bytes(4, "little") * 2
    return bytes(header)


FILES = {
    "ok.jpg": _encoded(_photo(1), "JPEG"),
    "copy.jpg": _encoded(_photo(1), "JPEG"),
    "broken_off.jpg": _encoded(_photo(2), "JPEG")[:-200],
    "text.png": b"<html>404 not found</html>",
    "bomb.bmp": _bomb(),
    "other_size.png": _encoded(_photo(3, (30, 30)), "PNG"),
    "turned.jpg": _encoded(_photo(4), "JPEG", exif=_turned(6)),
    "upside_down.jpg": _encoded(_photo(5), "JPEG", exif=_turned(3)),
    "deep.png": cv2.imencode(".png", _photo(6).astype(np.uint16) * 256)[1].tobytes(),
    "inks.jpg": _encoded(_photo(7), "JPEG", "CMYK"),
    "grey.png": _encoded(_photo(8), "PNG", "L"),
    "crowded.png": _encoded(_photo(9), "PNG"),
    "empty.png": _encoded(_photo(10), "PNG"),
    "<script>.png": _encoded(_photo(11), "PNG"),
}


def _everything_wrong() -> dict:
    images = [
        {"id": i, "file_name": name, "height": HW[0], "width": HW[1]} for i, name in enumerate([*FILES, "gone.png"])
    ]
    number = {image["file_name"]: image["id"] for image in images}

    def box(name: str, bbox: object = (5, 5, 20, 20), category: object = 3, **more: object) -> dict:
        return {"image_id": number[name], "category_id": category, "bbox": bbox, **more}

    plain = [box(name) for name in number if name not in ("empty.png", "crowded.png")]
    crowded = [box("crowded.png", [10 * i, 0, 9, 9]) for i in range(5)]
    faulty = [
        box("ok.jpg", [30, 5, 0, 9]),
        box("ok.jpg", [30, 5, float("nan"), 9]),
        box("ok.jpg", [90, 5, 9, 9]),
        box("ok.jpg", [50, 30, 20, 9]),
        box("turned.jpg"),  # once more
        box("inks.jpg", [5, 5, 20, 20.5]),  # nearly once more
        box("grey.png", [0, 0, 60, 40], iscrowd=1),
        box("<script>.png", category=8),
        box("ok.jpg", category=8),
        {**box("ok.jpg"), "image_id": 99},
        box("ok.jpg", [1, 2, 3]),
        box("ok.jpg", iscrowd=2),
        box("ok.jpg", area="big"),
        "no object",
        {"image_id": 0, "category_id": 3},
    ]
    images += [
        {"id": 0, "file_name": "grey.png", "height": 40, "width": 60},
        {"id": 101, "file_name": "grey.png", "height": 0, "width": 60},
        {"id": 102, "file_name": 5, "height": 40, "width": 60},
        {"id": "x", "file_name": "grey.png", "height": 40, "width": 60},
        {"id": 103, "file_name": "grey.png", "height": 20_000, "width": 20_000},
    ]
    categories = [
        {"id": 3, "name": "car"},
        {"id": 4, "name": "<b>bus\u001b[31m\ud800"},
        {"id": 3, "name": "van"},
        {"id": "5", "name": "truck"},
        {"id": 6, "name": 7},
    ]
    return {"images": images, "annotations": plain + crowded + faulty, "categories": categories}


@pytest.fixture
def sick_folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name, data in FILES.items():
        (tmp_path / "images" / name).write_bytes(data)
    (tmp_path / "annotations.json").write_text(json.dumps(_everything_wrong()))
    clean = {"id": 1, "file_name": "ok.jpg", "height": 40, "width": 60}
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    (tmp_path / "clean.json").write_text(
        json.dumps({"images": [clean], "annotations": [box], "categories": [{"id": 1, "name": "car"}]})
    )
    return tmp_path


def test_every_fault_is_found_and_named(sick_folder):
    report = examine(_config(sick_folder, eval_annotations="clean.json"), quick=False)
    found = _found(report)
    first = len(FILES) + 1 - 2 + 5  # annotations before the faulty ones
    assert found == {
        "unreadable": ["text.png"],
        "refused": found["refused"],
        "size_differs": ["other_size.png: 30 x 30, annotated 60 x 40"],
        "degenerate": [f"annotations[{first}] of ok.jpg", f"annotations[{first + 1}] of ok.jpg"],
        "outside": [f"annotations[{first + 2}] of ok.jpg"],
        "clipped": [f"annotations[{first + 3}] of ok.jpg"],
        "repeated_box": ["turned.jpg: car at 5, 5, 20, 20"],
        "nearly_repeated_box": ["inks.jpg: car at 5, 5, 20, 20.5"],
        "crowd": ["grey.png"],
        "empty": ["empty.png"],
        "overflow": ["crowded.png: 5 boxes"],
        "class_without_boxes": ["<b>bus\u001b[31m\ud800"],
        "repeated_image": ["copy.jpg = ok.jpg"],
        "truncated": ["broken_off.jpg"],
        "exif_turned": ["turned.jpg"],
        "exif_unclear": ["upside_down.jpg"],
        "sixteen_bit": ["deep.png"],
        "cmyk": ["inks.jpg"],
        "grey": ["grey.png"],
        "images.file_missing": [f"images[{len(FILES)}]: gone.png"],
        "images.id_repeated": [f"images[{len(FILES) + 1}]: grey.png"],
        "images.size": [f"images[{len(FILES) + 2}]: grey.png"],
        "images.file_name_type": [f"images[{len(FILES) + 3}]: 5"],
        "images.id_type": [f"images[{len(FILES) + 4}]: grey.png"],
        "images.too_large": [f"images[{len(FILES) + 5}]: grey.png"],
        "categories.id_repeated": ["categories[2]: van"],
        "categories.id_type": ["categories[3]: truck"],
        "categories.name_type": ["categories[4]: 7"],
        "annotations.category_id_unknown": [
            f"annotations[{first + 7}] of <script>.png",
            f"annotations[{first + 8}] of ok.jpg",
        ],
        "annotations.image_id_unknown": [f"annotations[{first + 9}]"],
        "annotations.bbox": [f"annotations[{first + 10}] of ok.jpg"],
        "annotations.iscrowd": [f"annotations[{first + 11}] of ok.jpg"],
        "annotations.area": [f"annotations[{first + 12}] of ok.jpg"],
        "annotations.no_object": [f"annotations[{first + 13}]"],
        "annotations.key_missing": [f"annotations[{first + 14}] of ok.jpg"],
    }
    assert found["refused"][0].startswith("bomb.bmp: ") and "at most 178956970 pixels" in found["refused"][0]
    assert {finding.kind: finding.names for finding in report.between} == {
        "overlap": ["ok.jpg = copy.jpg"],
        "classes_differ": ["<b>bus\u001b[31m\ud800"],
    }
    assert _found(report, "data.eval") == {}


def test_the_gravest_come_first_and_all_but_notes_have_a_remedy(sick_folder):
    findings = examine(_config(sick_folder), quick=False).checkups["data.train"].findings
    assert [f.severity for f in findings] == sorted(
        (f.severity for f in findings), key=["error", "warning", "note"].index
    )
    assert all(finding.remedy for finding in findings if finding.severity != "note")
    assert {severity for severity, _, _ in KINDS.values()} == {"error", "warning", "note"}


def test_quick_reads_no_image(sick_folder):
    for name in FILES:
        (sick_folder / "images" / name).write_bytes(b"")
    found = _found(examine(_config(sick_folder), quick=True))
    assert found.keys().isdisjoint({"unreadable", "truncated", "grey", "repeated_image"})
    assert {"degenerate", "annotations.bbox", "overflow", "images.file_missing"} <= found.keys()


def test_the_worst_images_come_with_their_boxes(sick_folder):
    suspects = examine(_config(sick_folder), quick=False).checkups["data.train"].suspects
    assert suspects[0].name == "ok.jpg"
    assert suspects[0].faults["degenerate"] == 2 and suspects[0].faults["annotations.bbox"] == 1
    assert [90, 5, 9, 9] in suspects[0].faulty_boxes
    assert suspects[0].read().shape == (*HW, 3)
    with pytest.raises(UserError):
        next(suspect for suspect in suspects if suspect.name == "text.png").read()


def test_counts_are_of_boxes_that_are_trained_on(make_folder):
    checkup = examine(_config(make_folder()), quick=True).checkups["data.train"]
    assert (checkup.num_images, checkup.class_boxes) == (2, {"car": 1, "train": 0, "toothbrush": 1})
    assert {name: count for name, count in checkup.box_sizes.items() if count} == {"8 to 16": 1, "16 to 32": 1}


def test_a_clean_set_has_no_findings(make_folder):
    content = truth()
    content["annotations"] = content["annotations"][:2] + [{"image_id": 5, "category_id": 7, "bbox": [1, 2, 9, 9]}]
    content["annotations"][1]["bbox"] = [30, 20, 20, 20]
    root = make_folder(content)
    part = examine(_config(root), quick=False)
    assert _found(part) == _found(part, "data.eval") == {}
    assert [finding.kind for finding in part.between] == ["overlap"]  # train and eval are one file here


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda x, y, w, h: [x, y, x + w, y + h], "corners"),
        (lambda x, y, w, h: [x / 60, y / 40, w / 60, h / 40], "fractions"),
        (lambda x, y, w, h: [x, y, w, h], None),
    ],
)
def test_boxes_that_are_meant_otherwise_are_suspected(make_folder, spoil, kind):
    rng = np.random.default_rng(0)
    bboxes = [[*rng.uniform(0, 20, 2), *rng.uniform(5, 20, 2)] for _ in range(40)]
    content = truth()
    content["annotations"] = [{"image_id": 11, "category_id": 3, "bbox": spoil(*bbox)} for bbox in bboxes]
    found = _found(examine(_config(make_folder(content)), quick=True))
    assert {"corners", "fractions"} & found.keys() == ({kind} if kind else set())


def test_the_same_images_under_other_names_are_an_overlap(sick_folder):
    (sick_folder / "images" / "again.jpg").write_bytes(FILES["ok.jpg"])
    content = json.loads((sick_folder / "clean.json").read_text())
    content["images"][0]["file_name"] = "again.jpg"
    (sick_folder / "again.json").write_text(json.dumps(content))
    config = _config(sick_folder, "clean.json", "again.json")
    assert examine(config, quick=True).between == []
    (overlap,) = examine(config, quick=False).between
    assert (overlap.kind, overlap.severity, overlap.names) == ("overlap", "warning", ["again.jpg = ok.jpg"])


def test_what_cannot_be_opened_is_an_error_and_the_other_set_is_looked_at(sick_folder):
    (sick_folder / "list.json").write_text("[]")
    report = examine(_config(sick_folder, "list.json", "clean.json"), quick=True)
    assert "list.json: expected an object, found []" in _found(report)["cannot_open"][0]
    assert report.checkups["data.eval"].num_images == 1
    (missing,) = _found(examine(_config(sick_folder, "nowhere.json"), quick=True))["cannot_open"]
    assert "nowhere.json" in missing and "No such file" in missing


def test_generated_sets_are_looked_at_as_any_source():
    part = dict(source="challenge", num_images=6, image_hw=(64, 64))
    report = examine(ConfigDict(dict(train=part, eval=dict(part), max_boxes=None, num_workers=2)), quick=False)
    assert _found(report).keys() <= {"class_without_boxes"}
    assert len(report.between[0].names) == 6 and report.between[0].kind == "overlap"
    assert (
        report.checkups["data.train"].about[0]
        == "challenge set, seed 0: 6 images, " + report.checkups["data.train"].about[0].split(", ")[-1]
    )


def test_parts_of_a_mixed_set_are_looked_at_one_by_one(sick_folder):
    config = _config(sick_folder, "clean.json")
    part = config.train.to_dict()
    config.train = dict(
        source="mixed", parts=dict(a=dict(part, weight=1), b=dict(part, weight=2, annotations="x.json"))
    )
    report = examine(config, quick=True)
    assert list(report.checkups) == ["data.train.parts.a", "data.train.parts.b", "data.eval"]
    assert _found(report, "data.train.parts.b").keys() == {"cannot_open"}
    assert [finding.kind for finding in report.between] == ["overlap"]


def test_a_glance_says_what_the_sources_do_not(make_folder):
    content = truth()
    content["annotations"] += [copy.deepcopy(content["annotations"][0])]
    root = make_folder(content)
    source = CocoJson(str(root), "annotations.json", "images", skip_empty=False)
    image = root / "images" / "a.png"
    twice = (
        f"1 boxes that repeat another of the same class (first {image}: toothbrush at 10, 5, 20, 30); remove the copies"
    )
    lines = glance(source, source)
    overlap = lines.pop(3)  # cut where the folder's name is long
    assert overlap.startswith(f"data: 2 {KINDS['overlap'][1]} (first {image} = ")
    assert lines == [
        "data.train: 1 classes without a box (first train); annotate them, or remove them from the categories",
        f"data.train: {twice}",
        f"data.eval: {twice}",
        "python -m lga_jax.doctor --config CONFIG names them all",
    ]


def test_a_glance_at_healthy_sets_is_silent():
    first, second = (open_source("challenge", num_images=40, seed=seed, image_hw=(64, 64)) for seed in (1, 2))
    assert glance(first, second) == []


def test_equal_boxes_of_other_classes_or_images_repeat_nothing(make_folder):
    content = truth()
    box = {"image_id": 11, "category_id": 3, "bbox": [1, 2, 20, 20]}
    content["annotations"] = [box, {**box, "category_id": 7}, {**box, "image_id": 5}, {**box, "bbox": [1, 2, 20, 10]}]
    found = _found(examine(_config(make_folder(content)), quick=True))
    assert found == {"class_without_boxes": ["toothbrush"]}


# What is written


def test_the_page_shows_what_the_data_says_as_text_only(sick_folder):
    page = doctor_html("a <title>", examine(_config(sick_folder), quick=False))
    assert "a &lt;title&gt;" in page and "&lt;script&gt;.png" in page and "&lt;b&gt;bus\\x1b[31m\\ud800" in page
    assert "<script" not in page and "<b>bus" not in page and "\x1b" not in page
    assert page.count("<figure>") == page.count('src="data:image/jpeg;base64,') > 5
    assert "http" not in re.sub(r"base64,[^\"]+", "", page)
    page.encode()


def test_the_table_is_plain_text(sick_folder):
    text = format_report(examine(_config(sick_folder), quick=False))
    assert (
        "\x1b" not in text.encode().decode() and "  ERROR    2 annotations at fault: expected every category_id" in text
    )
    assert "           -> add them to 'categories' or remove those annotations" in text
    assert text.splitlines()[-1] == "40 errors, 37 warnings, 12 notes"


def test_the_json_has_every_name(sick_folder):
    facts = json.loads(json.dumps(report_json(examine(_config(sick_folder), quick=True)), allow_nan=False))
    assert facts.keys() == {"status", "sets", "between"}
    train = facts["sets"]["data.train"]
    assert train.keys() == {"about", "images", "class_boxes", "box_sizes", "findings"}
    assert {key for finding in train["findings"] for key in finding} == {
        "kind", "severity", "text", "remedy", "names", "count"
    }  # fmt: skip
    assert all(finding["count"] == len(finding["names"]) > 0 for finding in train["findings"])


@settings(max_examples=60)
@given(data=st.data())
def test_no_mutant_of_an_annotation_file_is_too_much(tmp_path_factory, data):
    content = truth()
    mutate(data, content)
    root = tmp_path_factory.getbasetemp() / "patients"
    (root / "images").mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "b.png"):
        (root / "images" / name).write_bytes(FILES["grey.png"])
    (root / "annotations.json").write_text(json.dumps(content))
    report = examine(_config(root), quick=False)
    format_report(report).encode()
    doctor_html("mutant", report).encode()
    json.dumps(report_json(report), allow_nan=False).encode()
    _check_agrees_with_training(root, report)


def _check_agrees_with_training(root: Path, report: Report) -> None:
    """Training opens the set just if the doctor has nothing against its annotations."""
    errors = {f.kind for f in report.checkups["data.train"].findings if f.severity == "error"}
    errors -= {"unreadable", "size_differs", "no_boxes"}  # seen later, or not minded
    try:
        CocoJson(str(root), "annotations.json", "images", skip_empty=False)
    except UserError:
        assert errors
    else:
        assert not errors


# Real sets, where they are.

_SHARED = Path(os.environ.get("LGA_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.parametrize(
    ("root", "annotations", "images", "expected"),
    [
        ("bccd", ("trainval", "test"), ("images", "images"), {"nearly_repeated_box": 6}),
        ("neu_det", ("train", "val"), ("images", "images"), {"repeated_image": 1, "repeated_box": 3}),
        ("coco_tiny80", ("instances_train2017", "instances_val2017"), ("train2017", "val2017"), {"crowd": 6}),
    ],
)
def test_real_sets_are_healthy_but_for_what_is_known(root, annotations, images, expected):
    if not (_SHARED / root).is_dir():
        pytest.skip(f"no data set at {_SHARED / root}; LGA_SHARED_DATA names another place")
    config = _config(_SHARED / root, *(f"annotations/{name}.json" for name in annotations))
    config.train.images, config.eval.images = images
    config.max_boxes = None
    report = examine(config, quick=False)
    assert {kind: len(names) for kind, names in _found(report).items()} == expected
    assert report.between == []
