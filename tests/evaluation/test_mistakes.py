"""The costs of mistakes against an AP that is computed again without the mistake."""

import numpy as np
import pytest

from lga_jax.evaluation.mistakes import Mistake, cost_of_false, cost_of_missed, image_costs, kind_of


def area(correct, num_objects):
    """The area under the precision, without interpolation."""
    correct = np.asarray(correct, bool)
    return np.sum(np.cumsum(correct)[correct] / (np.flatnonzero(correct) + 1)) / num_objects


def some_detections(seed):
    return np.random.default_rng(seed).random(12) < 0.5


@pytest.mark.parametrize("seed", range(4))
def test_a_false_detection_costs_what_its_removal_gains(seed):
    correct = some_detections(seed)
    costs = cost_of_false(correct, 9)
    for place in range(len(correct)):
        gain = 0 if correct[place] else area(np.delete(correct, place), 9) - area(correct, 9)
        assert costs[place] == pytest.approx(gain)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_kept", [0, 5, 12])
def test_a_missed_object_costs_what_a_detection_at_the_threshold_gains(seed, num_kept):
    correct = some_detections(seed)
    costs = cost_of_missed(correct, 9, num_kept)
    assert costs[-1] == pytest.approx(area(np.insert(correct, num_kept, True), 9) - area(correct, 9))
    for place in range(num_kept, len(correct)):
        if correct[place]:  # the detection of the object moves up to the threshold
            moved = np.insert(np.delete(correct, place), num_kept, True)
            assert costs[place] == pytest.approx(area(moved, 9) - area(correct, 9))


def test_no_detections_and_a_perfect_detector():
    assert cost_of_missed(np.zeros(0, bool), 4, 0) == pytest.approx([1 / 4])
    np.testing.assert_array_equal(cost_of_false(np.ones(3, bool), 3), np.zeros(3))


BOX = (10, 10, 40, 40)
SHIFTED = (30, 10, 40, 40)  # IoU 1/3 with BOX


@pytest.mark.parametrize(
    ("objects", "labels", "kind"),
    [
        ([], [], ("background", None)),
        ([(70, 70, 20, 20)], [1], ("background", None)),
        ([(70, 70, 20, 20), SHIFTED], [1, 1], ("poor_box", 1)),
        ([(70, 70, 20, 20), BOX], [1, 2], ("wrong_class", 1)),
        ([SHIFTED, BOX], [1, 2], ("poor_box", 0)),  # first in TIDE's order
        ([BOX], [1], ("duplicate", 0)),
        ([SHIFTED], [2], ("wrong_class_poor_box", 0)),
    ],
)
def test_kinds_of_false_detections(objects, labels, kind):
    assert kind_of(BOX, 1, objects, np.array(labels, int)) == kind


def test_images_are_ordered_by_the_sum_of_their_costs():
    mistakes = [Mistake("missed", cost, image, None, 0) for image, cost in (("a", 0.2), ("b", 0.3), ("a", 0.2))]
    assert list(image_costs(mistakes).items()) == [("a", pytest.approx(0.4)), ("b", 0.3)]
