"""The seeds that a paired test needs; tests of differences stand in test_study.py."""

import math

import numpy as np
import pytest

from studies.attention.comparison import seeds_needed


@pytest.mark.parametrize(("difference", "needed"), [(0.016, 12), (0.020, 9), (0.010, 28)])
def test_seeds_for_a_spread_of_0_018(difference, needed):
    assert seeds_needed(0.018, difference) == needed


def test_the_power_is_that_of_simulated_experiments():
    count = seeds_needed(1.0, 1.2)
    drawn = np.random.default_rng(0).normal(1.2, 1.0, (20_000, count))
    statistic = drawn.mean(axis=1) / drawn.std(axis=1, ddof=1) * math.sqrt(count)
    critical = {7: 2.447, 8: 2.365, 9: 2.306}[count]  # Student's t, 0.975
    assert 0.79 < (np.abs(statistic) > critical).mean() < 0.9
