import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lga_jax.ops.conv import conv2d
from tests.reference import conv as reference


def case(size: int, seed: int = 0, hw: tuple[int, int] = (7, 6)) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(2, *hw, 3)), jnp.float32), jnp.asarray(
        rng.normal(size=(size, size, 3, 4)), jnp.float32
    )


def test_by_eye():
    # A kernel that looks one cell to the left shifts the picture to the right; outside is zero.
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 0].set(1.0)
    row = jnp.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1)
    assert conv2d(row, kernel).ravel().tolist() == [0, 1, 2]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_equals_the_reference(size, stride):
    x, kernel = case(size)
    expected = reference.conv2d(x, kernel, stride)
    np.testing.assert_allclose(conv2d(x, kernel, stride), expected, atol=1e-4)
    np.testing.assert_allclose(jax.jit(conv2d, static_argnums=2)(x, kernel, stride), expected, atol=1e-4)


def test_translation_equivariance_away_from_the_border():
    x, kernel = case(3)
    moved = conv2d(jnp.roll(x, 1, axis=2), kernel)
    np.testing.assert_allclose(moved[:, :, 2:-1], conv2d(x, kernel)[:, :, 1:-2], atol=1e-5)


@pytest.mark.parametrize("size", [1, 3])
def test_gradients_are_the_derivatives(size):
    check_grads(
        jax.jit(lambda x, k: conv2d(x, k, 2)), case(size, hw=(5, 4)), order=1, modes=["rev"], atol=5e-2, rtol=5e-2
    )


@pytest.mark.parametrize("size", [1, 3])
def test_bfloat16_stays_bfloat16(size):
    x, kernel = (v.astype(jnp.bfloat16) for v in case(size))
    assert conv2d(x, kernel).dtype == jnp.bfloat16
