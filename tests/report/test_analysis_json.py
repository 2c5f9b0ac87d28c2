"""The analysis as JSON."""

import json

import pytest

from lga_jax.files import null_for_nan
from lga_jax.report.analysis_json import analysis_json, curves_json
from tests.report.analysed import NAMES, Photos, evaluated


def test_the_entry_of_metrics_json_names_classes_images_and_boxes():
    result = evaluated()
    content = json.loads(json.dumps(null_for_nan(analysis_json(result.analysis, Photos().truth(), result.detections))))
    assert content["best_threshold"]["threshold"] == pytest.approx(0.2)
    assert set(content["best_threshold_per_class"]) == set(NAMES)
    assert content["objects_per_class"] == dict(zip(NAMES, (2, 1), strict=True))
    assert content["confusion"]["classes"] == [*NAMES, None]
    confused = next(mistake for mistake in content["mistakes"] if mistake["kind"] == "wrong_class")
    assert confused["detection"] == {"class": NAMES[1], "bbox": [100, 10, 40, 40]} and confused["score"] == 0.8
    assert confused["object"] == {"class": NAMES[0], "bbox": [100, 10, 40, 40]} and confused["image_id"] == 4
    missed = next(mistake for mistake in content["mistakes"] if mistake["kind"] == "missed")
    assert missed["detection"] is None and missed["score"] is None
    assert content["mistakes"][0]["cost"] >= content["mistakes"][-1]["cost"] >= 0
    assert {image["image_id"] for image in content["images"]} == {1, 4}
    assert {error["kind"] for error in content["label_errors"]} >= {"missing_annotation"}


def test_curves_have_one_line_per_class_and_iou():
    curves = json.loads(json.dumps(null_for_nan(curves_json(evaluated().analysis))))
    assert len(curves["recall"]) == 101 and curves["iou"] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    for name in NAMES:
        assert [len(line) for line in curves["precision"][name]] == [101] * 10
        assert len(curves["f1"][name]) == len(curves["threshold"]) == 80
