from typing import ClassVar

import flax.linen as nn

from lga_jax.models.freezing import frozen_labels


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
