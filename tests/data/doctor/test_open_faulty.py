"""Sets with faults are opened as far as they can be: records, file names and checks at their images."""

import json
from pathlib import Path

import numpy as np
import pytest

from lga_jax.data.challenge.source import Challenge
from lga_jax.data.coco.source import CocoJson
from lga_jax.data.doctor.findings import Findings
from lga_jax.data.doctor.open_faulty import from_source, open_faulty
from lga_jax.errors import UserError
from tests.data import lvis_folder
from tests.data.conftest import truth


def _settings(root: Path) -> dict:
    return dict(source="coco_json", root=str(root), annotations="annotations.json", images="images", skip_empty=False)


def _kinds(findings: Findings) -> dict[str, int]:
    return {finding.kind: len(finding.cases) for finding in findings.listed()}


def _same_records(records: list, expected: list) -> None:
    for record, other in zip(records, expected, strict=True):
        assert record[:3] == other[:3]
        for column, wanted in zip(record[3:6], other[3:6], strict=True):
            np.testing.assert_array_equal(column, wanted)


def test_a_set_that_training_reads_has_the_same_records(make_folder):
    settings, findings = _settings(make_folder()), Findings()
    opened = open_faulty(settings, findings)
    source = CocoJson(**{key: value for key, value in settings.items() if key != "source"})
    _same_records(opened.records, source.records)
    assert opened.class_names == source.class_names
    assert opened.identities == list(source.paths)
    np.testing.assert_array_equal(opened.read(1), source.image(1))
    assert _kinds(findings) == {"degenerate": 2, "outside": 2, "clipped": 1}
    clipped = next(finding for finding in findings.listed() if finding.kind == "clipped")
    assert (clipped.cases[0].annotation_index, clipped.cases[0].bbox) == (1, [50.5, 30, 20, 20])


def test_faulty_entries_are_left_out_with_what_belongs_to_them(make_folder):
    content, findings = truth(), Findings()
    content["images"][1]["height"] = 0
    content["annotations"][0]["iscrowd"] = 2
    opened = open_faulty(_settings(make_folder(content)), findings)
    assert [record.image_id for record in opened.records] == [11]
    assert opened.records[0].labels.tolist() == [0, 1]
    assert {"images.size": 1, "annotations.iscrowd": 1}.items() <= _kinds(findings).items()
    assert findings.faults[0]["annotations.iscrowd"] == 1  # seen at the image that is left
    case = next(finding for finding in findings.listed() if finding.kind == "annotations.iscrowd").cases[0]
    assert (case.file_name, case.image_id, case.annotation_index, case.bbox) == ("a.png", 11, 0, [10, 5, 20, 30])


def test_missing_files_keep_their_records_and_nothing_is_checked(make_folder):
    root, findings = make_folder(), Findings()
    (root / "images" / "b.png").unlink()
    opened = open_faulty(_settings(root), findings)
    assert len(opened.records) == 2
    assert _kinds(findings)["images.file_missing"] == 1
    assert opened.check(1) == ("", {})
    with pytest.raises(UserError):
        opened.read(1)


def test_without_a_folder_all_files_are_missing_and_said_once(make_folder):
    root, findings = make_folder(), Findings()
    (root / "images").rename(root / "photos")
    opened = open_faulty(_settings(root), findings)
    assert _kinds(findings)["no_folder"] == 1
    assert "images.file_missing" not in _kinds(findings)
    assert [opened.check(index) for index in range(2)] == [("", {})] * 2


def test_what_cannot_be_opened_is_a_finding(make_folder):
    root, findings = make_folder(), Findings()
    (root / "annotations.json").unlink()
    assert open_faulty(_settings(root), findings) is None
    assert _kinds(findings) == {"cannot_open": 1}


def test_equal_files_have_equal_identities_and_unreadable_ones_none(make_folder):
    root = make_folder()
    content = json.loads((root / "annotations.json").read_text())
    content["images"].append({"id": 6, "file_name": "copy.png", "height": 50, "width": 30})
    content["images"].append({"id": 7, "file_name": "text.png", "height": 50, "width": 30})
    content["images"].append({"id": 8, "file_name": "other.png", "height": 60, "width": 40})
    root = make_folder(content)
    (root / "images" / "copy.png").write_bytes((root / "images" / "b.png").read_bytes())
    (root / "images" / "other.png").write_bytes((root / "images" / "a.png").read_bytes())
    (root / "images" / "text.png").write_text("no image")
    checks = [open_faulty(_settings(root), Findings()).check(index) for index in range(5)]
    assert checks[1].identity == checks[2].identity != checks[0].identity
    assert checks[1].faults == checks[2].faults == {}
    assert (checks[3].identity, list(checks[3].faults)) == ("", ["unreadable"])
    assert checks[4].faults.keys() & {"refused", "size_differs"}  # 40 x 60 pixels under 60 x 40


def test_a_generated_set_is_opened_as_it_is():
    source = Challenge(2, seed=1, image_hw=(64, 64))
    opened = from_source(source)
    assert list(opened.records) == list(source.records) and opened.file_names == [None, None]
    assert len(set(opened.identities)) == 2
    assert set(opened.identities).isdisjoint(from_source(Challenge(2, seed=2, image_hw=(64, 64))).identities)
    assert opened.check(0).faults == {}


def test_lists_of_verified_classes_are_read_and_their_faults_counted(tmp_path):
    content, findings = lvis_folder.truth(), Findings()
    content["images"][0]["neg_category_ids"] = [20, 99]
    opened = open_faulty(lvis_folder.write(tmp_path, content), findings)
    assert [record.verified.tolist() for record in opened.records] == [[0], [1], [0, 3]]  # without the first image
    assert any("1.3 of 4 classes" in line for line in opened.about)
    assert _kinds(findings) == {"images.lists_unknown": 1}
    assert "[20, 99]" in str(findings.listed()[0].cases[0])
