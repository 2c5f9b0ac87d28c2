"""Backbones: networks that turn an image into features at several strides. What the rest of the project asks of one."""

from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Array, Float


@runtime_checkable
class Backbone(Protocol):
    """A flax module that the detector can stand on.

    Its parts are numbered 0 (stem), 1, 2, ... (stages), in the order in which an image passes them. The first
    `frozen_stages` parts are not trained: `__call__` stops their gradient and uses their stored statistics, and
    `models.freezing` tells the optimizer to leave their parameters alone.
    """

    strides: ClassVar[
        tuple[int, ...]
    ]  # pixels per cell of each feature map, finest first; each is twice the one before
    frozen_stages: int

    def __call__(self, x: Float[Array, "b h w 3"], train: bool) -> list[Float[Array, "b _ _ _"]]:
        """One feature map for each of `strides`, of ceil(h / stride) x ceil(w / stride) cells.

        `x` is normalised and zero in the padding. `train`: batch statistics may be used and updated.
        """
        ...

    @staticmethod
    def part_of(path: tuple[str, ...]) -> int:
        """Number of the part that holds a parameter: ("layer2_0", "conv1", "kernel") -> 2.

        `path`: names of the modules inside the backbone and of the parameter itself.
        """
        ...
