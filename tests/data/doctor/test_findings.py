"""The list of what was found: severities, counts, and which images have faults."""

import pytest

from lga_jax.data.doctor.findings import KINDS, SEVERITIES, Case, Findings


@pytest.mark.parametrize(
    ("case", "text"),
    [
        (Case(), ""),
        (Case("car"), "car"),
        (Case("broken", "a.png"), "a.png: broken"),
        (Case("broken", image_id=7), "image 7: broken"),
        (Case("broken", "a.png", 7), "a.png: broken"),  # the name tells more than the number
        (Case(image_id=0), "image 0"),
        (Case("", "a.png", 7, 3, [1, 2.5, 30, 20]), "annotations[3] of a.png: 1, 2.5, 30, 20"),
        (Case("category_id 2", None, None, 0, [1, 2, 3, 4]), "annotations[0]: category_id 2 at 1, 2, 3, 4"),
    ],
)
def test_a_case_says_where_it_is(case, text):
    assert str(case) == text


def test_errors_come_first_and_cases_are_counted():
    findings = Findings()
    for kind in ("grey", "degenerate", "unreadable", "degenerate"):
        findings.add(kind, Case())
    listed = findings.listed()
    assert [(f.kind, f.severity, len(f.cases)) for f in listed] == [
        ("unreadable", "error", 1),
        ("degenerate", "warning", 2),
        ("grey", "note", 1),
    ]
    assert listed[1].text.startswith("2 boxes ") and listed[0].text.startswith("1 image ")


def test_images_are_counted_by_fault_and_notes_are_none():
    findings = Findings()
    box = [1, 2, 3, 4]
    findings.add("degenerate", Case(bbox=box), image=5)
    findings.add("degenerate", Case(), image=5)
    findings.add("outside", Case(bbox=box), image=0)
    findings.add("crowd", Case(bbox=box), image=5)
    findings.add("no_folder", Case())
    assert findings.faults == {5: {"degenerate": 2}, 0: {"outside": 1}}
    assert findings.faulty_boxes == {5: [box], 0: [box]}


def test_a_kind_can_be_defined_for_one_set_alone():
    findings, other = Findings(), Findings()
    findings.define("images.size", "image", "without a height", "correct it")
    findings.add("images.size", Case(), image=1)
    (finding,) = findings.listed()
    assert (finding.severity, finding.text, finding.remedy) == ("error", "1 image without a height", "correct it")
    assert findings.faults[1] == {"images.size": 1}
    with pytest.raises(KeyError):
        other.add("images.size", Case(), image=1)


def test_all_kinds_but_notes_have_a_remedy():
    assert {severity for severity, *_ in KINDS.values()} == set(SEVERITIES)
    assert [kind for kind, (severity, _, _, remedy) in KINDS.items() if bool(remedy) == (severity == "note")] == []
