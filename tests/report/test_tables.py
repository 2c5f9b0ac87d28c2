"""An evaluation as text and as files."""

import json
import math

import pytest

from lga_jax.evaluation.evaluate import EvalResult
from lga_jax.evaluation.mask_hits import AttentionStatistics, ChallengeAP
from lga_jax.report.tables import challenge_matrix, describe_attention, format_result, write_result
from tests.report.analysed import Photos, evaluated, evaluated_masks

ATTENTION = AttentionStatistics(7, 0.5, 0.25, (0.5, 0.1), 0.13, 2.0)
RESULT = EvalResult(
    summary={"AP": 0.51234, "AP_small": math.nan},
    per_class={"crane": 0.25, "radar": math.nan},
    detections=[{"image_id": 5, "category_id": 1, "bbox": [4, 4, 20, 20], "score": 0.9}] * 3,
    num_images=2,
    num_non_finite=0,
    challenges=[
        ChallengeAP("plain", 0, 10, 0.8),
        ChallengeAP("motion_blur", 1, 10, 0.25),
        ChallengeAP("motion_blur", 3, 10, 0.111),
    ],
    attention=ATTENTION,
)


def row(text, name):
    """The numbers that stand behind a name."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"  {name} ")]
    return line.replace(name, "").split()


def test_every_number_stands_behind_its_name():
    text = format_result(RESULT)
    assert text.splitlines()[0] == "2 images, 3 detections"
    assert row(text, "AP") == ["0.5123"] and row(text, "AP_small") == ["-"]
    assert row(text, "crane") == ["0.2500"] and row(text, "radar") == ["-"]
    assert "1 of 2 classes have no object" in text


def test_masks_have_scores_of_their_own(tmp_path):
    result = evaluated_masks()
    text = format_result(result)
    _, *rows = text[text.index("AP of object masks per class") :].splitlines()
    assert len(rows) == 2 and rows[1].split()[-1] == f"{list(result.segm_per_class.values())[1]:.4f}"
    write_result(result, Photos(), tmp_path, {})
    segm = json.loads((tmp_path / "metrics.json").read_text())["segm_analysis"]
    assert segm["error_kinds"]["poor_box"]["count"] == 2
    assert "segm" in json.loads((tmp_path / "curves.json").read_text())


def test_challenges_have_a_column_for_each_severity():
    text = format_result(RESULT)
    head, plain, blur = text[text.index("AP per challenge") :].splitlines()[:3]
    assert head.split() == ["AP", "per", "challenge", "none", "severity", "1", "severity", "3"]
    assert row(text, "plain") == ["0.8000"] and row(text, "motion_blur") == ["0.2500", "0.1110"]
    assert plain.index("0.8000") + 6 == head.index("none") + 4  # right-aligned below their heads
    assert blur.index("0.1110") + 6 == len(head)


def test_challenges_and_attention_stand_only_where_they_are():
    text = format_result(RESULT._replace(challenges=[], attention=None))
    assert "challenge" not in text and "Attention" not in text


def test_detections_that_are_not_finite_are_a_warning():
    assert "WARNING" not in format_result(RESULT)
    assert "WARNING: 4 detections without finite numbers" in format_result(RESULT._replace(num_non_finite=4))


def test_attention_is_described_beside_chance():
    text = describe_attention(ATTENTION)
    for words in ("50.0% of 7 true positives", "by chance for 25.0%", "50.0%, 10.0%; by chance 13.0%", "2.00 cells"):
        assert words in text
    nothing = AttentionStatistics(0, *[math.nan] * 2, (math.nan,), *[math.nan] * 2)
    assert "no true positive" in describe_attention(nothing) and "nan" not in describe_attention(nothing)


def test_the_matrix_keeps_the_order_and_joins_severities():
    assert [(name, sorted(row)) for name, row in challenge_matrix(RESULT.challenges)] == [
        ("plain", [0]),
        ("motion_blur", [1, 3]),
    ]


def test_files_are_strict_json_without_nan(tmp_path):
    write_result(RESULT, Photos(), tmp_path, {"step": 5})
    assert json.loads((tmp_path / "detections.json").read_text()) == RESULT.detections
    refuse = dict(parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    metrics = json.loads((tmp_path / "metrics.json").read_text(), **refuse)
    assert metrics["step"] == 5 and metrics["analysis"] is None
    assert metrics["summary"] == {"AP": 0.51234, "AP_small": None}
    assert metrics["per_class"] == {"crane": 0.25, "radar": None}
    assert (metrics["detections"], metrics["num_images"]) == (3, 2)
    assert metrics["challenges"][1] == {"challenge": "motion_blur", "severity": 1, "num_images": 10, "ap": 0.25}
    assert metrics["attention"]["hit_rate_per_mask"] == [0.5, 0.1]


def test_an_analysis_adds_curves(tmp_path):
    write_result(evaluated(), Photos(), tmp_path, {})
    assert {path.name for path in tmp_path.iterdir()} == {"curves.json", "detections.json", "metrics.json"}
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["analysis"]["best_threshold"]["threshold"] == pytest.approx(0.2)
