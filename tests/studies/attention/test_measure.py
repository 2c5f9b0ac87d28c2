"""Errors and the worth of masks on a small board: two images, two classes."""

from types import SimpleNamespace

import pytest

from lga_jax.evaluation.analysis import analyse
from lga_jax.evaluation.coco import coco_metrics
from studies.attention.measure import deciding, describe_errors, describe_masks

ACE, KING = 1, 2
TRUTH = {
    "images": [{"id": 1, "height": 99, "width": 99}, {"id": 2, "height": 99, "width": 99}],
    "categories": [{"id": ACE, "name": "ace"}, {"id": KING, "name": "king"}],
    "annotations": [
        {"id": 7, "image_id": 1, "category_id": ACE, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0},
        {"id": 8, "image_id": 2, "category_id": KING, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0},
    ],
}


def result(ace, king, king_as_ace=0.0):
    """An evaluation with the given scores; 0: not found."""
    scored = [(1, ACE, ace), (2, KING, king), (2, ACE, king_as_ace)]
    found = [
        {"image_id": image, "category_id": category, "bbox": [0.0, 0.0, 10.0, 10.0], "score": score}
        for image, category, score in scored
        if score
    ]
    return SimpleNamespace(detections=found, summary=coco_metrics(TRUTH, found).summary)


def test_a_confusion_costs_all_of_the_missing_ap():
    found = describe_errors(analyse(TRUTH, result(ace=0.8, king=0.6, king_as_ace=0.9).detections))
    assert found["AP50"] == pytest.approx(0.75, abs=0.01)
    assert found["confusion_share"] == pytest.approx(1.0)
    assert found["errors"]["wrong_class"]["count"] == 1 and found["errors"]["background"]["count"] == 0
    assert set(found["confused"]) == {"ace/king"}


def test_a_mask_decides_if_the_score_falls_most_without_it():
    whole = result(ace=0.9, king=0.8)
    without = [result(ace=0.5, king=0.78), result(ace=0.7, king=0.79)]
    assert deciding(TRUTH, whole, without) == {7: 0, 8: None}
    assert deciding(TRUTH, whole, [result(ace=0.9, king=0.0), without[1]]) == {7: 1, 8: 0}


def test_the_worth_of_a_mask_is_the_ap_that_is_lost_without_it():
    parts = {(): result(0.9, 0.9), (0,): result(0.9, 0.0), (1,): result(0.8, 0.9), (0, 1): result(0.0, 0.0)}
    found = describe_masks(TRUTH, parts[()], lambda removed: parts[tuple(removed)], 2)
    assert found == {"worth": [0.5, 0.0], "worth_of_all": 1.0, "decides": [0.5, 0.5]}
