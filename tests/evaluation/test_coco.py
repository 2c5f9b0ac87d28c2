"""COCO metrics: two detections scored by hand, the edges pycocotools trips over, and the published twelve numbers."""

import copy
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from lga_jax.evaluation.coco import SUMMARY_NAMES, coco_metrics

SHARED = Path(os.environ.get("LGA_SHARED_DATA", Path(__file__).parents[2] / "../shared/data")).resolve()
FIXTURE = SHARED / "eval_fixtures" / "cocoapi_val2014_100"


def truth_of(*boxes, images=(1, 2)):
    """Ground truth over two images with classes 'cat' (3), 'dog' (7); a box is (image, category, xywh)."""
    return {
        "images": [{"id": image, "height": 100, "width": 100} for image in images],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for i, (image, category, box) in enumerate(boxes)
        ],
    }


def found(image, category, box, score):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def test_by_hand():
    """Two 40x40 cats; the first is found with IoU 40*32/1600 = 0.8, the second not; a false alarm scores lower.

    At the seven thresholds 0.50 .. 0.80 the first detection is right: precision 1 up to recall 1/2, zero beyond, and
    51 of COCO's 101 recall points are at most 1/2. So AP50 = 51/101 and AP = 7/10 of it; AR = 0.7 * 1/2.
    """
    truth = truth_of((1, 3, [10, 10, 40, 40]), (2, 3, [10, 10, 40, 40]))
    detections = [found(1, 3, [10, 10, 40, 32], 0.9), found(2, 3, [60, 60, 20, 20], 0.5)]
    metrics = coco_metrics(truth, detections)
    assert tuple(metrics.summary) == SUMMARY_NAMES
    assert metrics.summary["AP50"] == pytest.approx(51 / 101)
    assert metrics.summary["AP"] == pytest.approx(0.7 * 51 / 101)
    assert metrics.summary["AP_medium"] == pytest.approx(0.7 * 51 / 101)
    assert metrics.summary["AR_100"] == pytest.approx(0.35)
    assert metrics.per_class["cat"] == pytest.approx(0.7 * 51 / 101)


def test_what_the_ground_truth_does_not_have_is_nan():
    metrics = coco_metrics(truth_of((1, 3, [10, 10, 40, 40])), [found(1, 3, [10, 10, 40, 40], 0.9)])
    assert metrics.summary["AP"] == pytest.approx(1.0)
    assert math.isnan(metrics.summary["AP_small"]) and math.isnan(metrics.summary["AR_large"])
    assert metrics.per_class["cat"] == pytest.approx(1.0) and math.isnan(metrics.per_class["dog"])


def test_no_detections_score_zero_and_no_ground_truth_is_nan():
    metrics = coco_metrics(truth_of((1, 3, [10, 10, 40, 40])), [])
    assert metrics.summary["AP"] == 0.0 and metrics.per_class["cat"] == 0.0
    assert all(math.isnan(value) for value in coco_metrics(truth_of(), []).summary.values())


def test_string_ids_give_the_same_numbers_and_nothing_is_changed_or_printed(capsys):
    boxes = [(1, 3, [10, 10, 40, 40]), (2, 7, [5, 5, 20, 20])]
    detections = [found(1, 3, [12, 10, 40, 40], 0.9), found(2, 7, [5, 6, 20, 20], 0.4)]
    names = {1: "b.png", 2: "a.png"}
    truth = truth_of(*[(names[i], c, box) for i, c, box in boxes], images=("b.png", "a.png"))
    named = [{**detection, "image_id": names[detection["image_id"]]} for detection in detections]
    before = copy.deepcopy((truth, named))
    np.testing.assert_equal(coco_metrics(truth, named), coco_metrics(truth_of(*boxes), detections))
    assert (truth, named) == before
    assert capsys.readouterr().out == ""


def test_an_annotation_with_id_0_can_be_found():
    truth = truth_of((1, 3, [10, 10, 40, 40]))
    assert truth["annotations"][0]["id"] == 0
    assert coco_metrics(truth, [found(1, 3, [10, 10, 40, 40], 0.9)]).summary["AP"] == pytest.approx(1.0)


def test_area_and_iscrowd_may_be_missing_and_crowds_are_ignored():
    truth = truth_of((1, 3, [10, 10, 40, 40]), (2, 3, [0, 0, 90, 90]))
    del truth["annotations"][0]["area"], truth["annotations"][0]["iscrowd"]
    truth["annotations"][1]["iscrowd"] = 1
    detections = [found(1, 3, [10, 10, 40, 40], 0.8), found(2, 3, [20, 20, 30, 30], 0.9)]  # the latter in the crowd
    assert coco_metrics(truth, detections).summary["AP"] == pytest.approx(1.0)


def test_a_subset_of_images_is_scored_alone():
    truth = truth_of((1, 3, [10, 10, 40, 40]), (2, 3, [10, 10, 40, 40]))
    detections = [found(1, 3, [10, 10, 40, 40], 0.8), found(2, 3, [60, 60, 30, 30], 0.9)]
    assert coco_metrics(truth, detections, image_ids=[1]).summary["AP"] == pytest.approx(1.0)
    assert coco_metrics(truth, detections, image_ids=[2]).summary["AP"] == 0.0


def test_an_unknown_image_is_refused():
    with pytest.raises(ValueError, match=r"ids 9: not in the ground truth's 2 images"):
        coco_metrics(truth_of(), [found(9, 3, [0, 0, 1, 1], 0.5)])
    with pytest.raises(ValueError, match="ids 8: not in"):
        coco_metrics(truth_of(), [], image_ids=[8])


@pytest.mark.skipif(not FIXTURE.is_dir(), reason=f"no data set at {FIXTURE}; LGA_SHARED_DATA names another place")
def test_the_twelve_published_numbers_of_val2014_100():
    truth = json.loads((FIXTURE / "instances_val2014_100.json").read_text())
    detections = json.loads((FIXTURE / "instances_val2014_fakebbox100_results.json").read_text())
    published = json.loads((FIXTURE / "expected_bbox.json").read_text())["bbox"]
    metrics = coco_metrics(truth, detections)
    np.testing.assert_allclose(list(metrics.summary.values()), list(published.values()), rtol=0, atol=1e-9)
    classes = [value for value in metrics.per_class.values() if not math.isnan(value)]
    assert np.mean(classes) == pytest.approx(metrics.summary["AP"])
