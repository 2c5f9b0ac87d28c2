"""Draws a fixed number of positives and negatives for the loss (Faster R-CNN section 3.1.3)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from lga_jax.ops.topk import top_k
from lga_jax.structs import Samples


def sample_balanced(
    key: Key[Array, ""],
    positive: Bool[Array, "n"],
    negative: Bool[Array, "n"],
    matched: Int[Array, "n"],
    *,
    num_samples: int,
    positive_fraction: float,
) -> Samples:
    """Draws at most num_samples * positive_fraction positives, and negatives for the remaining slots, uniformly.

    Slots are invalid if both run out. One uniform draw and two top_k are cheaper than a random permutation, which
    sorts all anchors.
    """
    num_anchors = positive.shape[0]
    lottery = jax.random.uniform(key, (num_anchors,))
    max_positive = min(int(num_samples * positive_fraction), num_anchors)
    _, positive_index = top_k(jnp.where(positive, lottery, -1.0), max_positive)
    _, negative_index = top_k(jnp.where(negative, lottery, -1.0), min(num_samples, num_anchors))
    num_positive = jnp.minimum(positive.sum(), max_positive)
    num_negative = jnp.minimum(negative.sum(), num_samples - num_positive)

    slot = jnp.arange(num_samples)
    is_positive = slot < num_positive
    # `mode="clip"` has an effect only in invalid slots.
    index = jnp.where(
        is_positive,
        positive_index.take(slot, mode="clip") if max_positive else 0,
        negative_index.take(slot - num_positive, mode="clip"),
    )
    valid = slot < num_positive + num_negative
    return Samples(index=index, positive=is_positive, valid=valid, matched=matched[index])
