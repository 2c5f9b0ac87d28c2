"""The suite runs with the annotations of lga_jax checked; without this every other test would prove less."""

import jax.numpy as jnp
import jaxtyping
import pytest

from lga_jax.ops import anchors, boxes


def test_a_wrong_shape_is_refused():
    with pytest.raises(jaxtyping.TypeCheckError):
        boxes.area(jnp.zeros((3, 5)))


def test_a_wrong_dtype_is_refused():
    with pytest.raises(jaxtyping.TypeCheckError):
        boxes.area(jnp.zeros((3, 4), jnp.int32))


def test_an_int_may_stand_for_a_float():
    assert anchors.base_anchors(8, (1,), rounded=False).tolist() == [[-4, -4, 4, 4]]
