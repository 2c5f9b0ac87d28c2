"""What forms of attention add, by operations; times are not tested."""

import jax
import numpy as np

from studies.attention.cost import Cost, Part, Size, measure, parts_of

TINY = Size(side=64, rois=8, width=8, channels=16)


def test_close_ups_cost_more_than_masks_and_masks_more_than_nothing():
    parts = {row: parts_of(row, TINY) for row in ("none", "lga", "close_up_guide")}
    for kind in (0, 1):
        none, lga, close_up = (parts[row][kind].flops for row in parts)
        assert none < lga < close_up
    gradient = parts["lga"][0].call()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert parts["lga"][1].call().shape == (1, 8, 7, 7, 16)


def test_a_cost_is_the_difference_to_none_relative_to_the_whole(monkeypatch):
    flops = {"whole": (200.0, 100.0), "none": (10.0, 5.0), "lga": (30.0, 7.0)}
    programs = {row: tuple(Part(lambda: None, value) for value in values) for row, values in flops.items()}
    monkeypatch.setattr("studies.attention.cost.whole_of_none", lambda size: programs["whole"])
    monkeypatch.setattr("studies.attention.cost.parts_of", lambda row, size: programs[row])
    taken = {("whole", 0): [2.0, 4.0], ("whole", 1): [1.0, 1.0], ("none", 0): [0.1, 0.1], ("none", 1): [0.0, 0.0]}
    taken |= {("lga", 0): [0.3, 0.5], ("lga", 1): [0.02, 0.04]}
    monkeypatch.setattr("studies.attention.cost._in_turn", lambda calls, rounds: taken)
    costs = measure(["none", "lga"], TINY, 2)
    assert costs["none"] == Cost(0.0, 0.0, 0.0, 0.0)
    np.testing.assert_allclose(costs["lga"], (0.1, 0.03, 0.1, 0.02))
