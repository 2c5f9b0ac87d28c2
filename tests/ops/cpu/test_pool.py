import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.ops.cpu import pool


def _gradient(function, x, cotangent):
    return jax.vjp(function, x)[1](cotangent)[0]


def test_windows_begin_one_cell_before_the_map_and_move_by_two():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(pool.max_pool(x)[0, ..., 0], [[5, 7], [13, 15]])


@pytest.mark.parametrize("hw", [(8, 8), (7, 10), (5, 5), (1, 1)])
def test_both_forms_agree_also_in_the_gradient(hw):
    x = jax.random.normal(jax.random.key(0), (2, *hw, 3))
    plain = pool._plain(x)
    np.testing.assert_array_equal(pool._along_both_axes(x), plain)
    cotangent = jax.random.normal(jax.random.key(1), plain.shape)
    np.testing.assert_allclose(
        _gradient(pool._along_both_axes, x, cotangent), _gradient(pool._plain, x, cotangent), rtol=1e-6, atol=1e-6
    )


def test_of_equal_cells_the_first_gets_the_whole_gradient_as_in_the_plain_form():
    x = jax.random.randint(jax.random.key(0), (1, 9, 8, 4), 0, 2).astype(jnp.float32)
    cotangent = jnp.ones_like(pool._plain(x))
    np.testing.assert_array_equal(_gradient(pool._along_both_axes, x, cotangent), _gradient(pool._plain, x, cotangent))


def test_the_maximum_of_a_window_that_holds_a_nan_is_nan():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 3, 3, 0].set(jnp.nan)
    np.testing.assert_array_equal(jnp.isnan(pool.max_pool(x))[0, ..., 0], [[False, False], [False, True]])


def test_other_platforms_are_given_the_plain_form():
    lowered = jax.jit(pool.max_pool).trace(jnp.zeros((1, 8, 8, 2))).lower(lowering_platforms=("tpu",))
    assert "reduce_window" in lowered.as_text()
