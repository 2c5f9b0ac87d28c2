"""When evaluations have stalled."""

import math

import pytest

from lga_jax.training.early_stopping import has_stalled, num_without_gain


@pytest.mark.parametrize(
    ("values", "since"),
    [({}, 0), ({10: 0.5}, 0), ({10: 0.5, 20: 0.4}, 1), ({10: 0.5, 20: 0.5}, 1), ({30: 0.6, 10: 0.5, 20: 0.4}, 0)],
)
def test_evaluations_since_the_best(values, since):
    assert num_without_gain(values, larger_is_better=True) == since


def test_a_loss_is_better_if_it_is_smaller():
    assert num_without_gain({1: 3.0, 2: 2.0, 3: 2.5}, larger_is_better=False) == 1


def test_nan_is_never_better():
    assert num_without_gain({1: math.nan, 2: math.nan}, larger_is_better=True) == 2
    assert num_without_gain({1: 0.1, 2: math.nan}, larger_is_better=False) == 1


def test_the_metric_decides():
    scores, losses = {1: 0.5, 2: 0.4, 3: 0.3}, {1: 3.0, 2: 2.0, 3: 1.0}
    assert has_stalled(2, "AP", scores, losses) and not has_stalled(3, "AP", scores, losses)
    assert not has_stalled(1, "loss", scores, losses)
    assert not has_stalled(0, "AP", scores, losses)
