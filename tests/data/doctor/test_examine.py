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

from lga_jax.data.coco.source import CocoJson
from lga_jax.data.doctor.examine import Report, examine, quick_warnings
from lga_jax.data.doctor.findings import KINDS
from lga_jax.data.source import open_source
from lga_jax.errors import UserError
from lga_jax.report.doctor_page import doctor_html, format_report, report_json
from tests.data.conftest import mutate, truth

HW = (40, 60)


def _config(root: Path, annotations: str = "annotations.json", eval_annotations: str | None = None) -> ConfigDict:
    part = dict(source="coco_json", root=str(root), images="images", skip_empty=False)
    return ConfigDict(
        dict(
            train=dict(part, annotations=annotations),
            eval=dict(part, annotations=eval_annotations or annotations),
            max_boxes=4,
            max_faulty=0.1,
            num_workers=2,
        )
    )


def _found(report: Report, part: str = "data.train") -> dict[str, list[str]]:
    return {finding.kind: [str(case) for case in finding.cases] for finding in report.sources[part].findings}


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
        "unreadable": ["text.png: a web page"],
        "refused": found["refused"],
        "size_differs": ["other_size.png: 30 x 30, annotated 60 x 40"],
        "degenerate": [
            f"annotations[{first}] of ok.jpg: 30, 5, 0, 9",
            f"annotations[{first + 1}] of ok.jpg: 30, 5, nan, 9",
        ],
        "outside": [f"annotations[{first + 2}] of ok.jpg: 90, 5, 9, 9"],
        "clipped": [f"annotations[{first + 3}] of ok.jpg: 50, 30, 20, 9"],
        "repeated_box": ["turned.jpg: car at 5, 5, 20, 20"],
        "nearly_repeated_box": ["inks.jpg: car at 5, 5, 20, 20.5"],
        "crowd": ["grey.png: car at 0, 0, 60, 40"],
        "empty": ["empty.png"],
        "overflow": ["crowded.png: 5 boxes"],
        "class_without_boxes": ["<b>bus\u001b[31m\ud800"],
        "repeated_image": ["copy.jpg: the same as ok.jpg"],
        "truncated": ["broken_off.jpg"],
        "exif_turned": ["turned.jpg"],
        "exif_unclear": ["upside_down.jpg"],
        "deep": ["deep.png: 16 bits"],
        "cmyk": ["inks.jpg"],
        "grey": ["grey.png"],
        "images.file_missing": [f"gone.png: images[{len(FILES)}]"],
        "images.id_repeated": [f"grey.png: images[{len(FILES) + 1}], id 0"],
        "images.size": [f"grey.png: images[{len(FILES) + 2}], height 0, width 60"],
        "images.file_name_type": [f"image 102: images[{len(FILES) + 3}], file_name 5"],
        "images.id_type": [f"grey.png: images[{len(FILES) + 4}], id 'x'"],
        "images.too_large": [f"grey.png: images[{len(FILES) + 5}], height 20000, width 20000"],
        "categories.id_repeated": ["categories[2]: id 3, name 'van'"],
        "categories.id_type": ["categories[3]: id '5', name 'truck'"],
        "categories.name_type": ["categories[4]: id 6, name 7"],
        "annotations.category_id_unknown": [
            f"annotations[{first + 7}] of <script>.png: category_id 8 at 5, 5, 20, 20",
            f"annotations[{first + 8}] of ok.jpg: category_id 8 at 5, 5, 20, 20",
        ],
        "annotations.image_id_unknown": [f"annotations[{first + 9}]: image_id 99 at 5, 5, 20, 20"],
        "annotations.bbox": [f"annotations[{first + 10}] of ok.jpg: bbox [1, 2, 3]"],
        "annotations.iscrowd": [f"annotations[{first + 11}] of ok.jpg: iscrowd 2 at 5, 5, 20, 20"],
        "annotations.area": [f"annotations[{first + 12}] of ok.jpg: area 'big' at 5, 5, 20, 20"],
        "annotations.no_object": [f"annotations[{first + 13}]: 'no object'"],
        "annotations.key_missing": [f"annotations[{first + 14}] of ok.jpg: image_id 0, category_id 3"],
    }
    assert found["refused"][0].startswith("bomb.bmp: ") and "at most 178956970 pixels" in found["refused"][0]
    assert {finding.kind: list(map(str, finding.cases)) for finding in report.between} == {
        "overlap": ["ok.jpg: the same as copy.jpg"],
        "classes_differ": [r"'<b>bus\x1b[31m\ud800' only in data.train"],
    }
    assert _found(report, "data.eval") == {}


def test_the_gravest_come_first_and_all_but_notes_have_a_remedy(sick_folder):
    findings = examine(_config(sick_folder), quick=False).sources["data.train"].findings
    assert [f.severity for f in findings] == sorted(
        (f.severity for f in findings), key=["error", "warning", "note"].index
    )
    assert all(finding.remedy for finding in findings if finding.severity != "note")
    assert {severity for severity, *_ in KINDS.values()} == {"error", "warning", "note"}


def test_quick_reads_no_image(sick_folder):
    for name in FILES:
        (sick_folder / "images" / name).write_bytes(b"")
    found = _found(examine(_config(sick_folder), quick=True))
    assert found.keys().isdisjoint({"unreadable", "truncated", "grey", "repeated_image"})
    assert {"degenerate", "annotations.bbox", "overflow", "images.file_missing"} <= found.keys()


def test_each_kind_of_fault_has_an_image_with_its_boxes(sick_folder):
    source_report = examine(_config(sick_folder), quick=False).sources["data.train"]
    assert source_report.faulty_images[0].faults.keys() & {
        f.kind for f in source_report.findings if f.severity == "error"
    }
    by_name = {faulty.name: faulty for faulty in source_report.faulty_images}
    assert by_name["ok.jpg"].faults["degenerate"] == 2 and by_name["ok.jpg"].faults["annotations.bbox"] == 1
    assert [90, 5, 9, 9] in by_name["ok.jpg"].faulty_boxes
    assert by_name["ok.jpg"].read().shape == (*HW, 3)
    with pytest.raises(UserError):
        by_name["text.png"].read()


def test_many_images_with_more_faults_do_not_hide_an_error(make_folder):
    content = truth()
    names = [f"{number}.png" for number in range(40)]
    content["images"] = [{"id": n, "file_name": name, "height": 40, "width": 60} for n, name in enumerate(names)]
    box = {"category_id": 3, "bbox": [1, 2, 20, 20]}
    content["annotations"] = [{**box, "image_id": n} for n in range(38) for _ in range(5)]
    root = make_folder(content)
    for name in names:
        (root / "images" / name).write_bytes(FILES["text.png"] if name == "39.png" else FILES["ok.jpg"])
    faulty_images = examine(_config(root), quick=False).sources["data.train"].faulty_images
    assert faulty_images[0].name == "39.png" and faulty_images[0].faults == {"unreadable": 1}


def test_counts_are_of_boxes_that_are_trained_on(make_folder):
    source_report = examine(_config(make_folder()), quick=True).sources["data.train"]
    assert (source_report.num_images, source_report.class_boxes) == (2, {"car": 1, "train": 0, "toothbrush": 1})
    assert {name: count for name, count in source_report.box_sizes.items() if count} == {"8 to 16": 1, "16 to 32": 1}


def test_a_clean_set_has_no_findings(make_folder):
    content = truth()
    content["annotations"] = content["annotations"][:2] + [{"image_id": 5, "category_id": 7, "bbox": [1, 2, 9, 9]}]
    content["annotations"][1]["bbox"] = [30, 20, 20, 20]
    root = make_folder(content)
    part = examine(_config(root), quick=False)
    assert _found(part) == _found(part, "data.eval") == {}
    assert [finding.kind for finding in part.between] == ["overlap"]  # train and eval are one file here


def test_a_set_that_training_refuses_for_its_boxes_is_an_error(make_folder):
    content = truth()
    assert "many_unusable" not in _found(examine(_config(make_folder(content)), quick=True))  # 4 of 7
    content["annotations"] += [{"image_id": 11, "category_id": 3, "bbox": [5, 5, 0, 0]}] * 10
    assert _found(examine(_config(make_folder(content)), quick=True))["many_unusable"] == ["14 of 17 boxes"]


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda x, y, w, h: [x, y, x + w, y + h], "corners"),
        (lambda x, y, w, h: [x / 60, y / 40, w / 60, h / 40], "fractions"),
        (lambda x, y, w, h: [20 + x + w / 2, 12 + y + h / 2, w, h], "reaching_out"),
        (lambda x, y, w, h: [x, y, w, h], None),
    ],
)
def test_boxes_that_are_meant_otherwise_are_suspected(make_folder, spoil, kind):
    rng = np.random.default_rng(0)
    bboxes = [[*rng.uniform(0, 20, 2), *rng.uniform(5, 20, 2)] for _ in range(40)]
    content = truth()
    content["annotations"] = [{"image_id": 11, "category_id": 3, "bbox": spoil(*bbox)} for bbox in bboxes]
    found = _found(examine(_config(make_folder(content)), quick=True))
    assert {"corners", "fractions", "reaching_out", "clipped"} & found.keys() == ({kind} if kind else set())


def test_the_start_of_training_warns_of_boxes_that_are_meant_otherwise(make_folder):
    content = truth()
    content["annotations"] = [{"image_id": 11, "category_id": 3, "bbox": [10, 5, 50, 35]} for _ in range(20)]
    assert open_source(**_config(make_folder(content)).train).report == [
        f"{make_folder(content)}/annotations.json: 2 images, 20 boxes, 3 classes",
        "1 images without boxes to train on: kept as background",
    ]
    for annotation in content["annotations"]:
        annotation["bbox"] = [20, 15, 50, 35]  # as [x1, y1, x2, y2] it fits
    assert open_source(**_config(make_folder(content)).train).report[-1] == (
        "WARNING: 20 of 20 boxes outside the image; as [x1, y1, x2, y2] nearly all would fit;"
        " convert bbox to [x, y, width, height]"
    )


def test_a_few_boxes_that_reach_out_are_a_note(make_folder):
    content = truth()
    content["annotations"] = [{"image_id": 11, "category_id": 3, "bbox": [n, 30, 20, 20]} for n in range(9)]
    assert len(_found(examine(_config(make_folder(content)), quick=True))["clipped"]) == 9


def test_the_same_images_under_other_names_are_an_overlap(sick_folder):
    (sick_folder / "images" / "again.jpg").write_bytes(FILES["ok.jpg"])
    content = json.loads((sick_folder / "clean.json").read_text())
    content["images"][0]["file_name"] = "again.jpg"
    (sick_folder / "again.json").write_text(json.dumps(content))
    config = _config(sick_folder, "clean.json", "again.json")
    assert examine(config, quick=True).between == []
    (overlap,) = examine(config, quick=False).between
    assert (overlap.kind, overlap.severity) == ("overlap", "warning")
    case = {"detail": "the same as ok.jpg", "file_name": "again.jpg", "image_id": 1}
    assert [entry._asdict() for entry in overlap.cases] == [{**case, "annotation_index": None, "bbox": None}]


def test_what_cannot_be_opened_is_an_error_and_the_other_set_is_looked_at(sick_folder):
    (sick_folder / "list.json").write_text("[]")
    report = examine(_config(sick_folder, "list.json", "clean.json"), quick=True)
    assert "list.json: expected an object, found []" in _found(report)["cannot_open"][0]
    assert report.sources["data.eval"].num_images == 1
    (missing,) = _found(examine(_config(sick_folder, "nowhere.json", "clean.json"), quick=True))["cannot_open"]
    assert "nowhere.json" in missing and "No such file" in missing
    assert "boxes of each class" not in format_report(report).split("data.eval")[0]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("root", "nowhere", "data.train: annotation file nowhere/annotations.json: "),
    ],
)
def test_settings_of_which_nothing_comes_are_the_users_error(sick_folder, key, value, words):
    config = _config(sick_folder).to_dict()
    for part in ("train", "eval"):
        config[part][key] = value
    with pytest.raises(UserError, match=re.escape(words)):
        examine(ConfigDict(config), quick=True)


def test_a_missing_folder_of_images_is_one_finding(make_folder):
    root = make_folder()
    config = _config(root)
    config.train.images = "nowhere"
    found = _found(examine(config, quick=False))
    assert found["no_folder"] == [str(root / "nowhere")]
    assert found.keys().isdisjoint({"images.file_missing", "unreadable", "refused"})


def test_generated_sets_are_looked_at_as_any_source():
    part = dict(source="challenge", num_images=6, image_hw=(64, 64))
    report = examine(
        ConfigDict(dict(train=part, eval=dict(part), max_boxes=None, max_faulty=0.1, num_workers=2)), quick=False
    )
    assert _found(report).keys() <= {"class_without_boxes"}
    assert len(report.between[0].cases) == 6 and report.between[0].kind == "overlap"
    assert (
        report.sources["data.train"].about[0]
        == "challenge set, seed 0: 6 images, " + report.sources["data.train"].about[0].split(", ")[-1]
    )


def test_parts_of_a_mixed_set_are_looked_at_one_by_one(sick_folder):
    config = _config(sick_folder, "clean.json")
    part = config.train.to_dict()
    config.train = dict(
        source="mixed", parts=dict(a=dict(part, weight=1), b=dict(part, weight=2, annotations="x.json"))
    )
    report = examine(config, quick=True)
    assert list(report.sources) == ["data.train.parts.a", "data.train.parts.b", "data.eval"]
    assert _found(report, "data.train.parts.b").keys() == {"cannot_open"}
    assert [finding.kind for finding in report.between] == ["overlap"]


def test_quick_warnings_says_what_the_sources_do_not(make_folder):
    content = truth()
    content["annotations"] += [copy.deepcopy(content["annotations"][0])]
    source = CocoJson(str(make_folder(content)), "annotations.json", "images", skip_empty=False)
    twice = "1 box equal to another of the same class (first a.png: toothbrush at 10, 5, 20, 30); keep one of each"
    lines = quick_warnings(source, source)
    assert lines == [
        f"data.train: 1 class without a box (first train); {KINDS['class_without_boxes'][3]}",
        f"data.train: {twice}",
        f"data.eval: {twice}",
        f"data: 2 images {KINDS['overlap'][2]} (first a.png: the same as a.png); split the data again",
        "lga_jax doctor --config RECIPE lists all of them",
    ]


def test_quick_warnings_at_healthy_sets_is_silent():
    first, second = (open_source("challenge", num_images=40, seed=seed, image_hw=(64, 64)) for seed in (1, 2))
    assert quick_warnings(first, second) == []


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
    assert page.count("<script") == 1 and "<b>bus" not in page and "\x1b" not in page  # the page's own
    assert page.count("<figure") == page.count('src="data:image/jpeg;base64,') > 5
    assert "://" not in re.sub(r"base64,[^\"]+", "", page)
    page.encode()


def test_the_table_is_plain_text(sick_folder):
    text = format_report(examine(_config(sick_folder), quick=False))
    assert "\x1b" not in text.encode().decode()
    assert "  ERROR    2 annotations with an unknown category_id" in text
    assert "           -> add them to 'categories' or remove these annotations" in text
    assert not re.search(r"\b1 (boxes|images|annotations|categories|classes)\b", text)
    assert text.splitlines()[-1] == "40 errors, 37 warnings, 12 notes"


def test_bars_start_in_one_column_whatever_the_names(make_folder):
    content = truth()
    names = ["cafe\u0301", "\u4e2d\u6587\u7c7b\u522b", "a name that is longer than a terminal is wide " * 3]
    content["categories"] = [{"id": number, "name": name} for number, name in enumerate(names)]
    content["annotations"] = [{"image_id": 11, "category_id": n, "bbox": [1, 2, 9, 9 + n]} for n in range(3)]
    lines = format_report(examine(_config(make_folder(content)), quick=True)).splitlines()
    rows = lines[lines.index("  boxes of each class") + 1 :][:3]
    assert rows[0].startswith("    cafe\u0301 ") and rows[1].startswith("    \u4e2d\u6587\u7c7b\u522b ")
    assert rows[2].startswith("    a name that is longer than a te…  ")
    # The accent takes no column, the four letters take two each.
    assert [row.index("█") for row in rows] == [47 + 1, 47 - 4, 47]


def test_bars_of_the_page_grow_from_the_left(make_folder):
    page = doctor_html("title", examine(_config(make_folder()), quick=True))
    assert '<div style="width:100.0%"></div>' in page and '<div style="width:0.0%"></div>' in page
    assert "█" not in page and 'name="viewport"' in page


def test_the_json_has_every_case(sick_folder):
    facts = json.loads(json.dumps(report_json(examine(_config(sick_folder), quick=True)), allow_nan=False))
    assert facts.keys() == {"counts", "sets", "between"}
    assert facts["counts"].keys() == {"error", "warning", "note"}
    train = facts["sets"]["data.train"]
    assert train.keys() == {"about", "images", "class_boxes", "box_sizes", "findings"}
    assert all(f.keys() == {"kind", "severity", "text", "remedy", "cases"} for f in train["findings"])
    findings = [f for checked in facts["sets"].values() for f in checked["findings"]] + facts["between"]
    assert facts["counts"]["error"] == sum(len(f["cases"]) for f in findings if f["severity"] == "error")
    cases = {finding["kind"]: finding["cases"] for finding in train["findings"]}
    assert cases["degenerate"][1] == {
        "detail": "", "file_name": "ok.jpg", "image_id": 0, "annotation_index": 19, "bbox": [30, 5, None, 9]
    }  # fmt: skip
    assert cases["annotations.image_id_unknown"][0]["image_id"] == 99


@settings(max_examples=60)
@given(data=st.data())
def test_no_mutant_of_an_annotation_file_is_too_much(tmp_path_factory, data):
    content = truth()
    mutate(data, content)
    root = tmp_path_factory.getbasetemp() / "opened_sources"
    (root / "images").mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "b.png"):
        (root / "images" / name).write_bytes(FILES["grey.png"])
    (root / "annotations.json").write_text(json.dumps(content))
    try:
        report = examine(_config(root), quick=False)
    except UserError:
        with pytest.raises(UserError):
            CocoJson(str(root), "annotations.json", "images", skip_empty=False)
        return
    format_report(report).encode()
    doctor_html("mutant", report).encode()
    json.dumps(report_json(report), allow_nan=False).encode()
    _check_agrees_with_training(root, report)


def _check_agrees_with_training(root: Path, report: Report) -> None:
    """Training opens the set just if the doctor has nothing against its annotations."""
    errors = {f.kind for f in report.sources["data.train"].findings if f.severity == "error"}
    errors -= {"unreadable", "size_differs", "no_boxes"}  # seen later, or not minded
    try:
        CocoJson(str(root), "annotations.json", "images", skip_empty=False)
    except UserError:
        assert errors
    else:
        assert not errors


# Real sets, where they are.

_SHARED = Path(os.environ.get("LGA_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))


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
    assert {kind: len(cases) for kind, cases in _found(report).items()} == expected
    assert report.between == []
