"""The doctor's findings as text, page and JSON, from a report made by hand."""

import json

import numpy as np
import pytest

from lga_jax.data.doctor.examine import FaultyImage, Report, SourceReport
from lga_jax.data.doctor.findings import Case, Finding
from lga_jax.data.source import Record
from lga_jax.errors import UserError
from lga_jax.report.doctor_page import doctor_html, format_report, report_json, summary

BOX = [4, 2, float("inf"), 9]
CASES = [Case("", f"{number}.png", number, number, BOX) for number in range(60)]
ERROR = Finding("outside", "error", "60 boxes outside the image", "correct <bbox>", CASES)
NOTE = Finding("few", "note", "1 class with few boxes", "", [Case("bus\x1b[31m")])


def record(hw):
    return Record(1, *hw, np.float32([[2, 2, 8, 8]]), np.int32([0]), np.array([False]))


def unreadable():
    raise UserError("a.png", expected="an image")


def report(faulty_images=()):
    train = SourceReport(
        ["12 boxes were clipped"], 2, {"car": 30, "<bus>": 15}, {"0 to 8": 45}, [ERROR], list(faulty_images)
    )
    evaluation = SourceReport([], 0, {}, {}, [], [])
    return Report({"data.train": train, "data.eval": evaluation}, [NOTE])


def test_the_summary_counts_cases_by_severity():
    assert summary(report()) == "60 errors, 0 warnings, 1 note"


def test_the_text_has_contents_bars_and_the_first_cases():
    lines = format_report(report()).splitlines()
    assert lines[0] == "data.train: 2 images, 45 boxes, 2 classes"
    assert lines[1] == "  12 boxes were clipped"
    bars = {line.split()[0]: line.count("█") for line in lines if "█" in line}
    assert bars == {"car": 30, "<bus>": 15, "0": 30}
    at = lines.index("  ERROR    60 boxes outside the image")
    assert lines[at + 1].count(";") == 5 and lines[at + 1].endswith("and 55 more")
    assert "annotations[4] of 4.png: 4, 2, inf, 9" in lines[at + 1] and "5.png" not in lines[at + 1]
    assert lines[at + 2].strip() == "-> correct <bbox>"
    assert lines[-1] == summary(report()) and "\x1b" not in "".join(lines)
    assert "data.eval: 0 images, 0 boxes, 0 classes" in lines


def test_the_page_has_fifty_cases_and_escapes_what_the_data_says():
    html = doctor_html("<title>", report())
    assert html.count("<li>") == 50 + 1 + 1  # of the errors, how many more, the note
    assert "and 10 more" in html and "&lt;bus&gt;" in html and "correct &lt;bbox&gt;" in html
    assert "<bus>" not in html and "\x1b" not in html
    assert '<details class="error">' in html and '<details class="note">' in html


def test_suspects_have_a_picture_also_where_the_image_cannot_be_read():
    image = np.full((40, 60, 3), 90, np.uint8)
    faulty_images = [
        FaultyImage("a.png", {"outside": 2}, record((40, 60)), [BOX, [50, 30, 500, 500]], lambda: image),
        FaultyImage("b.png", {"unreadable": 1}, record((40, 60)), [], unreadable),
    ]
    html = doctor_html("title", report(faulty_images))
    assert html.count("<figure") == html.count("data:image/jpeg;base64,") == 2
    assert "a.png: 2 outside" in html and "b.png: 1 unreadable" in html
    assert "<figure>" not in doctor_html("title", report())


def test_the_json_is_strict_and_has_every_case():
    refuse = dict(parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    facts = json.loads(json.dumps(report_json(report())), **refuse)
    assert facts["counts"] == {"error": 60, "warning": 0, "note": 1}
    train = facts["sets"]["data.train"]
    assert (train["images"], train["class_boxes"], train["about"]) == (2, {"car": 30, "<bus>": 15}, [
        "12 boxes were clipped"])  # fmt: skip
    (finding,) = train["findings"]
    assert len(finding["cases"]) == 60 and finding["cases"][7]["bbox"] == [4, 2, None, 9]
    assert facts["between"][0]["kind"] == "few"
