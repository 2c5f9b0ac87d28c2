"""F1 over the threshold: counted by hand."""

import math

import numpy as np
import pytest

from lga_jax.evaluation.thresholds import best_of_class, best_overall, sweep


def example(**changes):
    """Class 0: three objects, correct detections at 0.9 and 0.6, a false one at 0.3. Class 1: one object at 0.8."""
    given = dict(
        scores=np.array([0.6, 0.9, 0.3, 0.8]),
        correct=np.array([True, True, False, True]),
        labels=np.array([0, 0, 0, 1]),
        num_objects=np.array([3, 1]),
    )
    return sweep(**given | changes)


def test_detections_with_at_least_the_threshold_are_counted():
    result = example()
    at = {round(t, 2): i for i, t in enumerate(result.thresholds)}
    for threshold, precision, recall, f1 in (
        (0.3, 2 / 3, 2 / 3, 2 / 3),
        (0.31, 1, 2 / 3, 4 / 5),
        (0.7, 1, 1 / 3, 1 / 2),
    ):
        found = (result.precision[0, at[threshold]], result.recall[0, at[threshold]], result.f1[0, at[threshold]])
        np.testing.assert_allclose(found, (precision, recall, f1))
    assert result.f1[1, at[0.8]] == 1 and result.f1[1, at[0.81]] == 0
    assert math.isnan(result.precision[1, at[0.81]])


def test_no_threshold_is_below_the_lowest_score():
    """An evaluation has left out lower scores, so nothing is known about them."""
    assert example().thresholds[0] == pytest.approx(0.3)
    assert example(scores=np.array([0.6, 0.9, 0.057, 0.8])).thresholds[0] == pytest.approx(0.05)


def test_the_best_threshold_is_the_middle_of_the_best_run():
    assert best_of_class(example(), 0) == pytest.approx((0.46, 0.8, 1.0, 2 / 3))  # of 0.31 .. 0.60
    assert best_overall(example()) == pytest.approx((0.46, 0.9, 1.0, 5 / 6))


def test_a_class_without_objects_does_not_count():
    result = example(num_objects=np.array([3, 0]))
    assert all(map(math.isnan, best_of_class(result, 1)))
    assert best_overall(result) == pytest.approx((0.46, 0.8, 1.0, 2 / 3))


@pytest.mark.parametrize("num_objects", [[3, 1], [0, 0]])
def test_without_a_correct_detection_there_is_no_best_threshold(num_objects):
    result = example(correct=np.zeros(4, bool), num_objects=np.array(num_objects))
    assert all(map(math.isnan, best_overall(result)))
    nothing = sweep(np.zeros(0), np.zeros(0, bool), np.zeros(0, int), np.array(num_objects))
    assert all(map(math.isnan, best_overall(nothing)))
