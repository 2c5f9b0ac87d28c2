import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lga_jax.ops.cpu import conv
from lga_jax.ops.cpu.conv import conv2d
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


@pytest.fixture
def small_is_large(monkeypatch):
    monkeypatch.setattr(conv, "_WINOGRAD_CELLS", 1)
    monkeypatch.setattr(conv, "_WINOGRAD_CHANNELS", 1)
    monkeypatch.setattr(conv, "_PRODUCT_CHANNELS", 1)


def primitives(function, *args) -> str:
    return jax.jit(function).lower(*args).as_text()


def test_large_3x3_convolutions_have_no_convolution_on_cpus(small_is_large):
    x, kernel = case(3)
    loss = jax.grad(lambda x, kernel: conv2d(x, kernel).sum(), (0, 1))
    assert "stablehlo.convolution" not in primitives(loss, x, kernel)
    assert "stablehlo.convolution" in primitives(conv2d, *case(7))


@pytest.mark.parametrize("stride", [1, 2])
def test_other_platforms_keep_the_plain_form(small_is_large, stride):
    """Seen in what is lowered for them: the loop over strips is not there."""
    loss = jax.jit(jax.grad(lambda x, kernel: conv2d(x, kernel, stride).sum(), (0, 1)))
    for platform in ("cuda", "tpu"):
        text = loss.trace(*case(3)).lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == 2  # the forward pass is not needed for the gradient of a sum
        assert "stablehlo.while" not in text
    assert "stablehlo.while" in loss.trace(*case(3)).lower(lowering_platforms=("cpu",)).as_text()


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (1, 2)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_large_form_has_the_gradients_of_the_plain_one(small_is_large, dtype, size, stride):
    x, kernel = (value.astype(dtype) for value in case(size))
    shape = conv2d(x, kernel, stride).shape
    weight = jnp.asarray(np.random.default_rng(1).normal(size=shape), dtype)

    def gradients(function):
        loss = lambda x, kernel: (function(x, kernel, stride) * weight).sum()  # noqa: E731
        return jax.jit(jax.grad(loss, (0, 1)))(x, kernel)

    for ours, plain in zip(gradients(conv2d), gradients(conv._plain), strict=True):
        assert ours.dtype == dtype
        tolerance = 1e-4 if dtype == jnp.float32 else 0.1
        np.testing.assert_allclose(ours.astype(jnp.float32), plain.astype(jnp.float32), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (1, 2)])
def test_the_plain_gradients_of_other_platforms(size, stride):
    x, kernel = case(size)
    result, pull_back = jax.vjp(lambda x, kernel: conv._plain(x, kernel, stride), x, kernel)
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=result.shape), jnp.float32)
    of_input, of_kernel = pull_back(cotangent)
    np.testing.assert_allclose(conv._plain_kernel_gradient(x, cotangent, size, stride), of_kernel, rtol=1e-5)
    np.testing.assert_allclose(conv._plain_input_gradient(cotangent, kernel, x.shape, stride), of_input, rtol=1e-5)


def test_small_maps_and_narrow_layers_keep_the_plain_form():
    for shape, channels in (((2, 7, 6), 128), ((1, 80, 80), 64)):
        x, kernel = jnp.zeros((*shape, channels)), jnp.zeros((3, 3, channels, channels))
        assert "stablehlo.convolution" in primitives(conv2d, x, kernel)
    assert "stablehlo.convolution" not in primitives(conv2d, jnp.zeros((1, 80, 80, 128)), jnp.zeros((3, 3, 128, 128)))


@pytest.mark.parametrize(("num_outputs", "padded"), [(32, True), (40, False)])
def test_a_narrow_stem_reads_a_fourth_channel_on_cpus(num_outputs, padded):
    x, kernel = jnp.zeros((1, 8, 8, 3)), jnp.zeros((7, 7, 3, num_outputs))
    loss = jax.jit(jax.grad(lambda x, kernel: (conv2d(x, kernel, 2) ** 2).sum(), 1))
    for platform, expected in (("cpu", padded), ("cuda", False), ("tpu", False)):
        text = loss.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
        assert (f"tensor<7x7x4x{num_outputs}xf32>" in text) == expected


@pytest.mark.parametrize("size", [3, 7])
def test_a_fourth_channel_changes_no_gradient(size):
    x, kernel = case(size)
    forms = (conv2d, conv._plain)
    ours, plain = (
        jax.grad(lambda x, kernel, f=form: (f(x, kernel, 2) ** 2).sum(), (0, 1))(x, kernel) for form in forms
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), ours, plain)
