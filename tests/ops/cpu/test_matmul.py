import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.ops.cpu import products
from lga_jax.ops.cpu.matmul import _plain_kernel_gradient, matmul


def case(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(12, 5)), dtype), jnp.asarray(rng.normal(size=(5, 3)), dtype)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_and_gradients_are_those_of_the_product(dtype):
    x, kernel = case(dtype)
    weight = jnp.asarray(np.random.default_rng(1).normal(size=(12, 3)), dtype)
    tolerance = 1e-5 if dtype == jnp.float32 else 0.05

    def both(product):
        loss = lambda x, kernel: (product(x, kernel) * weight).sum()  # noqa: E731
        return product(x, kernel), *jax.jit(jax.grad(loss, (0, 1)))(x, kernel)

    for ours, plain in zip(both(matmul), both(jnp.matmul), strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours.astype(jnp.float32), plain.astype(jnp.float32), atol=tolerance, rtol=tolerance)


def test_only_cpus_get_the_form_for_cpus():
    """Its mark: the barrier before operands are transposed."""
    gradient = jax.jit(jax.grad(lambda x, kernel: matmul(x, kernel).sum(), (0, 1)))
    for platform, marked in (("cpu", True), ("cuda", False), ("tpu", False)):
        text = gradient.trace(*case()).lower(lowering_platforms=(platform,)).as_text()
        assert ("optimization_barrier" in text) == marked


def test_the_gradient_of_other_platforms_is_the_same():
    x, _ = case()
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=(12, 3)), jnp.float32)
    expected = products.matmul_kernel_gradient(x, cotangent)
    np.testing.assert_allclose(_plain_kernel_gradient(x, cotangent), expected, rtol=1e-5)
