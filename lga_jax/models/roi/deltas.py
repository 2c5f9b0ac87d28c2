"""Which of a head's box deltas belong to a class."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def deltas_of(box_deltas: Float[Array, "*n _ 4"], labels: Int[Array, "*n"]) -> Float[Array, "*n 4"]:
    """The deltas for the class of each RoI; a class-agnostic head has the same for all classes.

    `labels`: 0..k. Background has no box; it gets the deltas of the last class.
    """
    own = jnp.minimum(labels, box_deltas.shape[-2] - 1)[..., None, None]
    return jnp.take_along_axis(box_deltas, own, axis=-2)[..., 0, :]
