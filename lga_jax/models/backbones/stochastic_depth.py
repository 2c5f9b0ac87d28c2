"""Stochastic depth (Huang et al. 2016): training skips residuals of blocks by chance, for each image."""

from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jaxtyping import Array, Float, Key

# Folded into the key of an image, beside the small numbers of the RPN and the stages.
_DEPTH_STREAM = 2**16


def depth_rates(num_blocks: int, last_rate: float) -> Float[np.ndarray, "n"]:
    """The rate of each block: from 0 in the first to `last_rate` in the last, as in torchvision."""
    return np.linspace(0.0, last_rate, num_blocks, dtype=np.float32)


def residual_factors(
    keys: Key[Array, "b"] | None, blocks: Sequence[int], frozen_stages: int, last_rate: float, num_residuals: int
) -> Iterator[Float[Array, "b _"] | None]:
    """The factors of the residuals of each block, for each image.

    A residual is dropped (0) or kept (1 / (1 - rate), so that its mean stays). Factors of an image depend on its key
    alone. Blocks of frozen parts have None, and without keys or with a rate of 0 all blocks: nothing is dropped.

    Args:
        keys: of the images; None outside of training.
        blocks: the number of blocks of part 1, part 2, ...
        frozen_stages: the number of frozen parts.
        last_rate: below 1.
        num_residuals: of a block.
    """
    total, num_frozen = sum(blocks), sum(blocks[: max(frozen_stages - 1, 0)])
    if keys is None or not last_rate:
        return iter([None] * total)
    rates = depth_rates(total, last_rate)
    draw = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, _DEPTH_STREAM), (total, num_residuals)))
    factors = (draw(keys) >= rates[:, None]) / (1.0 - rates[:, None])
    return iter([None] * num_frozen + [factors[:, number] for number in range(num_frozen, total)])


def scaled(
    residual: Float[Array, "b h w c"], factors: Float[Array, "b _"] | None, number: int
) -> Float[Array, "b h w c"]:
    """A residual times its factor in each image. `number`: its place in the block."""
    if factors is None:
        return residual
    return residual * factors[:, number, None, None, None].astype(residual.dtype)
