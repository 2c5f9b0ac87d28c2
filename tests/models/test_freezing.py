from typing import ClassVar

import flax.linen as nn

from lga_jax.models.freezing import frozen_labels, rate_factors


class Numbered(nn.Module):
    """Parts have their numbers for names."""

    frozen_stages: int
    strides: ClassVar[tuple[int, ...]] = (4, 8)

    def __call__(self, x, train):
        return [x, x]

    @staticmethod
    def part_of(path: tuple[str, ...]) -> int:
        return int(path[0])


def test_the_first_parts_are_frozen_as_the_backbone_counts_them_and_nothing_else():
    params = {"backbone": {"0": {"w": 0.0}, "1": {"w": 0.0}, "10": {"w": 0.0}}, "fpn": {"0": {"w": 0.0}}}
    labels = frozen_labels(params, Numbered(frozen_stages=2))
    assert labels["backbone"] == {"0": {"w": "frozen"}, "1": {"w": "frozen"}, "10": {"w": "trained"}}
    assert labels["fpn"] == {"0": {"w": "trained"}}
    assert frozen_labels(params, Numbered(frozen_stages=0))["backbone"]["0"] == {"w": "trained"}


def test_the_learning_rate_falls_from_the_last_part_to_the_stem():
    params = {
        "backbone": {"0": {"w": 0.0}, "1": {"w": 0.0}, "2": {"w": 0.0}, "3": {"w": 0.0}},
        "fpn": {"0": {"w": 0.0}},
    }
    backbone = Numbered(frozen_stages=0)  # parts 0 to 2; part 3 is behind them
    factors = rate_factors(params, backbone, 0.5)
    assert [factors["backbone"][part]["w"] for part in "0123"] == [0.125, 0.25, 0.5, 1.0]
    assert factors["fpn"] == {"0": {"w": 1.0}}
    assert rate_factors(params, backbone, 1.0) is None


def test_a_backbone_can_say_the_layers_of_the_rate_itself():
    class Deep(Numbered):
        @staticmethod
        def rate_power(path: tuple[str, ...]) -> int:
            return {"0": 3, "1": 0}[path[0]]

    params = {"backbone": {"0": {"w": 0.0}, "1": {"w": 0.0}}, "fpn": {"0": {"w": 0.0}}}
    factors = rate_factors(params, Deep(frozen_stages=0), 0.5)
    assert factors == {"backbone": {"0": {"w": 0.125}, "1": {"w": 1.0}}, "fpn": {"0": {"w": 1.0}}}
