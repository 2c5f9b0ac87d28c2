"""Backbones: networks that compute features of an image at several strides."""

import re
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Array, Float


@runtime_checkable
class Backbone(Protocol):
    """The interface of a backbone, a flax module.

    Its parts are numbered in the order of computation: 0 (stem), 1, 2, ... (stages). The first `frozen_stages` parts
    are not trained: `__call__` stops their gradient and uses their stored statistics, and `models.freezing` excludes
    their parameters from the optimizer.

    A backbone may have a field `stochastic_depth`. If it is above 0, training calls the backbone with a key for each
    image as third argument.

    A backbone may have a method `rate_power(path) -> int` with the argument of `part_of`: the power of
    `optim.backbone_decay` by which the learning rate of a parameter is multiplied. Without it, the last part has 1, the
    part before it 2, and so on.
    """

    strides: ClassVar[
        tuple[int, ...]
    ]  # pixels per cell of each feature map, finest first; each is twice the previous one
    frozen_stages: int

    def __call__(self, x: Float[Array, "b h w 3"], train: bool) -> list[Float[Array, "b _ _ _"]]:
        """One feature map for each of `strides`, of ceil(h / stride) x ceil(w / stride) cells.

        `x` is normalised and zero in the padding. `train`: batch statistics may be used and updated.
        """
        ...

    @staticmethod
    def part_of(path: tuple[str, ...]) -> int:
        """The number of a parameter's part: ("layer2_0", "conv1", "kernel") -> 2.

        `path`: names of the modules inside the backbone, then the name of the parameter.
        """
        ...


def part_by_name(name: str, num_stages: int) -> int:
    """The part of a module that is named after its stage.

    stem, stem_norm: 0; layer2_0, down2, merge2_norm: 2; output2_norm, behind all stages: num_stages + 1.
    """
    if name.startswith("output"):
        return num_stages + 1
    return 0 if name.startswith("stem") else int(re.search(r"\d", name)[0])


def block_by_name(name: str) -> int:
    """The number of a block within its part: layer2_7: 7; modules that are no block: 0."""
    found = re.fullmatch(r"layer\d_(\d+)", name)
    return int(found[1]) if found else 0
