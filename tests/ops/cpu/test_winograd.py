import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.ops.cpu import conv, winograd
from tests.reference import conv as reference

# Odd sides leave half a tile; the last has several strips, the last one partly outside.
SHAPES = [(2, 7, 6, 3, 4), (1, 1, 1, 2, 3), (2, 4, 9, 5, 2), (1, 37, 80, 4, 3)]


def case(batch, height, width, channels, features):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, height, width, channels)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, channels, features)), jnp.float32)
    cotangent = jnp.asarray(rng.normal(size=(batch, height, width, features)), jnp.float32)
    return x, kernel, cotangent


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_reference(shape):
    x, kernel, _ = case(*shape)
    np.testing.assert_allclose(jax.jit(winograd.conv3x3)(x, kernel), reference.conv2d(x, kernel, 1), atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_gradient_equals_that_of_the_plain_form(shape):
    x, kernel, cotangent = case(*shape)
    _, pull_back = jax.vjp(conv._plain, x, kernel)
    expected = pull_back(cotangent)[1]
    np.testing.assert_allclose(jax.jit(winograd.conv3x3_kernel_gradient)(x, cotangent), expected, rtol=1e-4, atol=1e-3)


def test_as_exact_as_the_direct_sum():
    # On the scale of a detector's layers, against float64. F(4x4, 3x3) would be ten times worse.
    x, kernel, _ = case(1, 24, 24, 256, 8)
    exact = reference.conv2d(np.asarray(x, np.float64), np.asarray(kernel, np.float64), 1)
    errors = [np.abs(f(x, kernel) - exact).max() for f in (conv._plain, winograd.conv3x3)]
    assert errors[1] < 4 * max(errors[0], np.abs(exact).max() * 1e-7)


def test_bfloat16_is_summed_in_float32():
    x, kernel, cotangent = (value.astype(jnp.bfloat16) for value in case(1, 8, 8, 64, 4))
    result = winograd.conv3x3(x, kernel)
    assert result.dtype == jnp.bfloat16
    wide = [value.astype(jnp.float32) for value in (x, kernel, cotangent)]
    np.testing.assert_allclose(result.astype(jnp.float32), winograd.conv3x3(*wide[:2]), rtol=2**-7)
    np.testing.assert_allclose(
        winograd.conv3x3_kernel_gradient(x, cotangent),
        winograd.conv3x3_kernel_gradient(wide[0], wide[2]),
        rtol=1e-4,
        atol=1e-4,
    )
