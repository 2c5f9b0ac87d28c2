"""Bootstrap samples against pycocotools on sets in which images really stand several times."""

import copy
import math

import hotcoco
import numpy as np
import pytest

from lga_jax.evaluation.bootstrap import (
    Interval,
    average_precision,
    bootstrap,
    differences,
    draw_weights,
    intervals,
    is_clear,
    outcomes,
)
from lga_jax.evaluation.coco import as_datasets, coco_metrics
from tests.evaluation.test_analysis import random_set


def repeated(truth, detections, weights):
    """The set with every image as often as its weight says, each time under another id."""
    ids = sorted(image["id"] for image in truth["images"])
    wanted = [(image, time) for image, weight in zip(ids, weights, strict=True) for time in range(weight)]

    def copies(boxes):
        return [
            copy.deepcopy(box) | {"image_id": number}
            for number, (image, _) in enumerate(wanted)
            for box in boxes
            if box["image_id"] == image
        ]

    images = [{"id": number} for number in range(len(wanted))]
    return truth | {"images": images, "annotations": copies(truth["annotations"])}, copies(detections)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_weight_counts_an_image_several_times(seed):
    truth, detections = random_set(np.random.default_rng(seed), text_ids=False)
    for number, detection in enumerate(detections):
        detection["score"] = (7 * number % len(detections) + 0.5) / len(detections)  # no ties
    weights = draw_weights(len(truth["images"]), 4, seed)
    samples = bootstrap(truth, detections, weights)
    for number, row in enumerate(weights):
        metrics = coco_metrics(*repeated(truth, detections, row))
        expected = {name: metrics.summary[name] for name in ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")}
        expected |= {f"AP {name}": value for name, value in metrics.per_class.items()}
        found = {name: values[number] for name, values in samples.samples.items()}
        np.testing.assert_equal(set(found), set(expected))
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-12, err_msg=name)


def test_the_value_is_that_of_the_whole_set():
    truth, detections = random_set(np.random.default_rng(3), text_ids=True)
    samples = bootstrap(truth, detections, draw_weights(len(truth["images"]), 2))
    metrics = coco_metrics(truth, detections)
    assert samples.value["AP"] == pytest.approx(metrics.summary["AP"], abs=1e-12)
    assert samples.value["AP_small"] == pytest.approx(metrics.summary["AP_small"], abs=1e-12, nan_ok=True)


def coin_set(found_every):
    """Images with one object each; every n-th is found."""
    truth = {
        "images": [{"id": i} for i in range(200)],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"image_id": i, "category_id": 1, "bbox": [9, 9, 50, 50]} for i in range(200)],
    }
    detections = [
        {"image_id": i, "category_id": 1, "bbox": [9, 9, 50, 50], "score": 0.5 + i / 1000}
        for i in range(0, 200, found_every)
    ]
    return truth, detections


def test_the_spread_is_that_of_a_share_and_that_of_hotcoco_is_too_narrow():
    """AP is here the share of found images. Once hotcoco's is as wide, its `compare` can be used instead."""
    truth, detections = coin_set(2)
    samples = bootstrap(truth, detections, draw_weights(200, 500)).samples["AP"]
    expected = math.sqrt(0.5 * 0.5 / 200)
    assert np.std(samples) == pytest.approx(expected, rel=0.1)

    def evaluated(boxes):
        evaluation = hotcoco.COCOeval(*map(hotcoco.COCO, as_datasets(truth, boxes, range(200))), "bbox")
        evaluation.evaluate()
        return evaluation

    theirs = hotcoco.compare(evaluated([]), evaluated(detections), n_bootstrap=500)["ci"]["AP"]["std_err"]
    assert theirs < 0.85 * expected


def test_the_interval_of_a_difference_uses_the_same_samples():
    truth, detections = coin_set(2)
    weights = draw_weights(200, 150)
    one, other = bootstrap(truth, detections, weights), bootstrap(truth, detections[1:], weights)
    alone, difference = intervals(one)["AP"], differences(other, one)["AP"]
    assert alone.low < alone.value < alone.high
    assert difference.high - difference.low < (alone.high - alone.low) / 5
    assert differences(one, one)["AP"] == Interval(0.0, 0.0, 0.0)


def test_without_objects_or_detections():
    truth, detections = coin_set(2)
    nothing = bootstrap(truth | {"annotations": []}, detections, draw_weights(200, 3))
    assert math.isnan(nothing.value["AP"]) and math.isnan(intervals(nothing)["AP"].low)
    missed = bootstrap(truth, [], draw_weights(200, 3))
    assert intervals(missed)["AP"] == Interval(0.0, 0.0, 0.0)


def test_many_samples_are_computed_in_parts(monkeypatch):
    truth, detections = coin_set(2)
    found, weights = outcomes(truth, detections)["all"]["a"], draw_weights(200, 7)
    whole = average_precision(found, weights)
    monkeypatch.setattr("lga_jax.evaluation.bootstrap._MOST_NUMBERS", 2 * found.correct.size)
    np.testing.assert_array_equal(average_precision(found, weights), whole)


@pytest.mark.parametrize(("low", "high", "clear"), [(0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.2, False)])
def test_a_clear_difference_excludes_zero(low, high, clear):
    assert is_clear(Interval(0.0, low, high)) is clear
