import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.ops.cpu import conv, products
from tests.reference import conv as reference


def random(*shape: int, seed: int = 0, dtype=jnp.float32) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def wide(x: jax.Array) -> np.ndarray:
    return np.asarray(x, np.float64)


@pytest.mark.parametrize(("channels", "features"), [(5, 3), (3, 5), (4, 4)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_matmul_and_its_gradient_have_float32_sums(channels, features, dtype):
    """Either operand may be the narrower one, which is the one transposed."""
    x, cotangent = random(300, channels, dtype=dtype), random(300, features, seed=1, dtype=dtype)
    kernel = random(channels, features, seed=2, dtype=dtype)
    result = jax.jit(products.matmul)(x, kernel)
    assert result.dtype == dtype
    rounding = 2**-8 if dtype == jnp.bfloat16 else 1e-6
    np.testing.assert_allclose(wide(result), wide(x) @ wide(kernel), rtol=rounding, atol=1e-5)
    gradient = jax.jit(products.matmul_kernel_gradient)(x, cotangent)
    assert gradient.dtype == jnp.float32
    np.testing.assert_allclose(gradient, wide(x).T @ wide(cotangent), rtol=1e-5, atol=1e-4)


SHAPES = [(1, 1, 1), (2, 7, 6), (1, 9, 4), (2, 3, 11)]


@pytest.fixture(params=[4, 20, 2048])
def strips(request, monkeypatch):
    """One row, a few rows, the whole map."""
    monkeypatch.setattr(products, "_CELLS_PER_STRIP", request.param)


@pytest.mark.parametrize("shape", SHAPES)
def test_convolution_equals_the_reference(shape, strips):
    x, kernel = random(*shape, 5), random(3, 3, 5, 4, seed=1)
    np.testing.assert_allclose(jax.jit(products.conv3x3)(x, kernel), reference.conv2d(x, kernel, 1), atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_the_derivatives(shape, stride, strips):
    x, kernel = random(*shape, 5), random(3, 3, 5, 4, seed=1)
    result, pull_back = jax.vjp(lambda x, kernel: conv._plain(x, kernel, stride), x, kernel)
    cotangent = random(*result.shape, seed=2)
    of_input, of_kernel = pull_back(cotangent)
    ours = jax.jit(products.conv3x3_kernel_gradient, static_argnums=2)(x, cotangent, stride)
    np.testing.assert_allclose(ours, of_kernel, rtol=1e-4, atol=1e-4)
    if stride == 2:
        ours = jax.jit(products.strided_input_gradient, static_argnums=(2, 3))(cotangent, kernel, *shape[1:])
        np.testing.assert_allclose(ours, of_input, rtol=1e-4, atol=1e-4)


def test_bfloat16_convolution_rounds_only_its_result():
    x, kernel = random(2, 9, 8, 64, dtype=jnp.bfloat16), random(3, 3, 64, 8, seed=1, dtype=jnp.bfloat16)
    exact = reference.conv2d(wide(x), wide(kernel), 1)
    result = jax.jit(products.conv3x3)(x, kernel)
    assert result.dtype == jnp.bfloat16
    np.testing.assert_allclose(wide(result), exact, rtol=2**-8, atol=1e-4)
    cotangent = random(2, 9, 8, 8, seed=2, dtype=jnp.bfloat16)
    gradient = jax.jit(products.conv3x3_kernel_gradient, static_argnums=2)(x, cotangent, 1)
    expected = products.conv3x3_kernel_gradient(x.astype(jnp.float32), cotangent.astype(jnp.float32), 1)
    assert gradient.dtype == jnp.float32
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)
