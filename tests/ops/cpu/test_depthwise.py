import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lga_jax.ops.cpu import depthwise
from lga_jax.ops.cpu.depthwise import depthwise_conv2d, same_padding
from tests.reference import conv as reference

FORMS = pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
SIDES = [(7, 6), (6, 7), (8, 5), (1, 2)]  # odd and even, and smaller than the kernel


def case(size, hw=(7, 6), dtype=jnp.float32):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, *hw, 3)), rng.normal(size=(size, size, 3))
    return jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)


def test_by_eye():
    """The kernel looks one cell ahead. An even side has its one zero behind it, an odd one has one at either end."""
    ahead = jnp.zeros((3, 3, 1)).at[1, 2].set(1.0)
    row = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 4, 1)
    assert depthwise_conv2d(row, ahead, 1).ravel().tolist() == [2, 3, 4, 0]
    assert depthwise_conv2d(row, ahead, 2).ravel().tolist() == [3, 0]  # windows 123 and 34.
    assert depthwise_conv2d(row[:, :, :3], ahead, 2).ravel().tolist() == [2, 0]  # windows .12 and 23.


def test_padding_of_tensorflow():
    assert [same_padding(side, 3, 2) for side in (4, 5)] == [(0, 1), (1, 1)]
    assert [same_padding(side, 5, 2) for side in (4, 5)] == [(1, 2), (2, 2)]
    assert same_padding(7, 3, 1) == (1, 1)
    assert same_padding(1, 1, 2) == (0, 0)


@FORMS
@pytest.mark.parametrize("hw", SIDES)
def test_equals_the_reference(size, stride, hw):
    x, kernel = case(size, hw)
    expected = reference.same_conv2d(x, kernel[:, :, None], stride, groups=3)
    np.testing.assert_allclose(depthwise_conv2d(x, kernel, stride), expected, atol=1e-5)
    np.testing.assert_allclose(depthwise.xla_depthwise_conv2d(x, kernel, stride), expected, atol=1e-5)


@FORMS
@pytest.mark.parametrize("hw", SIDES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_has_the_gradients_of_the_plain_form(size, stride, hw, dtype):
    x, kernel = case(size, hw, dtype)
    weight = np.random.default_rng(1).normal(size=depthwise_conv2d(x, kernel, stride).shape)

    def gradients(function):
        loss = lambda x, kernel: (function(x, kernel, stride) * jnp.asarray(weight, dtype)).sum()  # noqa: E731
        return jax.jit(jax.grad(loss, (0, 1)))(x, kernel)

    for ours, plain in zip(gradients(depthwise_conv2d), gradients(depthwise.xla_depthwise_conv2d), strict=True):
        assert ours.dtype == dtype
        tolerance = 1e-4 if dtype == jnp.float32 else 0.2
        np.testing.assert_allclose(ours.astype(jnp.float32), plain.astype(jnp.float32), atol=tolerance, rtol=tolerance)


@FORMS
def test_gradients_are_the_derivatives(size, stride):
    ours = jax.jit(functools.partial(depthwise_conv2d, stride=stride))
    check_grads(ours, case(size, (5, 4)), order=1, modes=["rev"], atol=5e-2, rtol=5e-2)


@FORMS
def test_the_plain_gradients_of_other_platforms(size, stride):
    x, kernel = case(size)
    result, pull_back = jax.vjp(lambda x, kernel: depthwise.xla_depthwise_conv2d(x, kernel, stride), x, kernel)
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=result.shape), jnp.float32)
    of_input, of_kernel = pull_back(cotangent)
    np.testing.assert_allclose(depthwise._plain_kernel_gradient(x, cotangent, size, stride), of_kernel, rtol=1e-5)
    np.testing.assert_allclose(depthwise._plain_input_gradient(cotangent, kernel, x.shape, stride), of_input, rtol=1e-5)


def test_each_platform_has_its_form():
    loss = jax.jit(jax.value_and_grad(lambda x, kernel: depthwise_conv2d(x, kernel, 2).sum(), (0, 1)))
    for platform in ("cuda", "tpu"):
        text = loss.trace(*case(3)).lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == 3
        assert "stablehlo.while" not in text
    assert "stablehlo.convolution" not in loss.trace(*case(3)).lower(lowering_platforms=("cpu",)).as_text()
