"""Attention on RoI crops: the interface."""

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Array, Float

from lga_jax.structs import Attention

# The features to crop: the feature pyramid, or the backbone's first feature map and its averages.
Level = Literal["pyramid", "c2"]
Crop = Callable[[Level], Float[Array, "*n s s c"]]


@runtime_checkable
class RoIFeatures(Protocol):
    """The features of the RoIs of a stage: a `Crop` that also reads single points."""

    def __call__(self, level: Level) -> Float[Array, "*n s s c"]:
        """The RoIAlign crop of every RoI."""
        ...

    def points(
        self,
        level: Level,
        positions: Float[Array, "*n p 2"],
        finer: int = 0,
        through: Callable[[Array], Array] | None = None,
    ) -> Float[Array, "*n p c"]:
        """The features at `positions` (x, y) in every RoI, differentiable in the positions as well.

        (0, 0) is the top left corner of the RoI and (1, 1) its bottom right corner. `finer`: read this number of
        pyramid levels below the level for the RoI's size, as far as there are any. `through`: a linear map of the
        channels, such as a 1x1 convolution, applied to the feature maps [.. h w c] before they are read.
        """
        ...


@runtime_checkable
class RegionAttention(Protocol):
    """A flax module between RoIAlign and the box head."""

    def __call__(self, crop: Crop, train: bool) -> Attention:
        """Applies attention to RoI crops. `fused` of the result is the input of the box head.

        `crop(level)` computes the crops [*n s s c] of a level. With `train` False, outputs for the loss are omitted.
        """
        ...
