"""Which deltas belong to a class."""

import jax.numpy as jnp
import numpy as np

from lga_jax.models.roi.deltas import deltas_of

DELTAS = jnp.arange(2 * 3 * 4.0).reshape(2, 3, 4)


def test_a_head_with_deltas_per_class_gives_those_of_the_label():
    np.testing.assert_array_equal(deltas_of(DELTAS, jnp.array([2, 0])), [DELTAS[0, 2], DELTAS[1, 0]])


def test_background_gets_those_of_the_last_class():
    np.testing.assert_array_equal(deltas_of(DELTAS, jnp.array([3, 3])), DELTAS[:, 2])


def test_a_class_agnostic_head_has_the_same_for_all():
    np.testing.assert_array_equal(deltas_of(DELTAS[:, :1], jnp.array([1, 2])), DELTAS[:, 0])
