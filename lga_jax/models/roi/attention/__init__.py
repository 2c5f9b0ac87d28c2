"""Attention on RoI crops: what a RoI stage asks of it."""

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Array, Float

from lga_jax.structs import Attention

# Where crops are taken from: the feature pyramid, or the backbone's first feature map and averages of it.
Level = Literal["pyramid", "c2"]
Crop = Callable[[Level], Float[Array, "*n s s c"]]


@runtime_checkable
class RegionAttention(Protocol):
    """A flax module between RoIAlign and the box head."""

    def __call__(self, crop: Crop, train: bool) -> Attention:
        """Crops `crop` gives [*n s s c] of the levels asked for; `fused` goes to the box head.

        `train` False: nothing that only a loss needs is computed.
        """
        ...
