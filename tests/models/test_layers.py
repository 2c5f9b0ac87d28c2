import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.models.layers import Conv, ConvWeights, Dense, FrozenBatchNorm, Norm, conv_norm, frozen_constants
from tests.reference.conv import conv2d as reference_conv

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 5, 32)), jnp.float32)


def test_a_convolution_is_padded_by_half_its_kernel_and_may_have_a_bias():
    conv = Conv(features=3, kernel_size=3, stride=2)
    y, variables = conv.init_with_output(jax.random.key(0), X)
    bias = jnp.array([1.0, 2.0, 3.0])
    params = dict(variables["params"], bias=bias)
    np.testing.assert_allclose(conv.apply({"params": params}, X), y + bias, atol=1e-5)
    np.testing.assert_allclose(y, reference_conv(np.asarray(X), np.asarray(params["kernel"]), 2), atol=1e-4)
    assert set(Conv(3, use_bias=False).init(jax.random.key(0), X)["params"]) == {"kernel"}


def test_weights_alone_are_those_of_the_convolution():
    init = nn.initializers.ones
    (kernel, bias), variables = ConvWeights(3, init, jnp.bfloat16).init_with_output(jax.random.key(0), 32)
    expected = Conv(3, kernel_init=init).init(jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, expected)
    assert (kernel.dtype, bias.dtype) == (jnp.bfloat16, jnp.bfloat16)


def test_constants_are_told_from_running_statistics():
    stats = {
        "a": {"bn": FrozenBatchNorm().init(jax.random.key(0), X)["batch_stats"]},
        "b": {"bn": Norm("bn").init(jax.random.key(0), X, False)["batch_stats"]["bn"]},
    }
    constant = frozen_constants(stats)
    assert jax.tree.structure(constant) == jax.tree.structure(stats)
    assert (jax.tree.leaves(constant["a"]), jax.tree.leaves(constant["b"])) == ([True] * 4, [False] * 2)


def test_dense_works_on_the_last_axis():
    y, variables = Dense(4).init_with_output(jax.random.key(0), X)
    kernel = np.asarray(variables["params"]["kernel"])
    np.testing.assert_allclose(y, np.asarray(X) @ kernel, rtol=1e-4, atol=1e-4)


def test_group_norm_has_sixteen_channels_a_group():
    y, _ = Norm("gn").init_with_output(jax.random.key(0), X, True)
    groups = np.asarray(y).reshape(2, 30, 2, 16)
    np.testing.assert_allclose(groups.mean(axis=(1, 3)), 0.0, atol=1e-5)
    np.testing.assert_allclose(groups.std(axis=(1, 3)), 1.0, atol=1e-3)


def test_few_channels_are_one_group():
    y, _ = Norm("gn").init_with_output(jax.random.key(0), X[..., :8], True)
    np.testing.assert_allclose(np.asarray(y).mean(axis=(1, 2, 3)), 0.0, atol=1e-5)


def test_frozen_batch_norm_is_the_textbook_formula():
    random = np.random.default_rng(0)
    stats = {name: jnp.asarray(random.uniform(0.5, 2.0, 32), jnp.float32) for name in ("scale", "bias", "mean", "var")}
    y = FrozenBatchNorm().apply({"batch_stats": stats}, X)
    wanted = (X - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * stats["scale"] + stats["bias"]
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


def test_a_frozen_norm_may_enter_the_kernel():
    class Both(nn.Module):
        together: bool

        @nn.compact
        def __call__(self, x):
            conv, norm = Conv(32, 3, use_bias=False, name="conv"), Norm("frozen_bn", name="norm")
            return norm(x, True, conv) if self.together else norm(conv(x), True)

    variables = Both(False).init(jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, Both(True).init(jax.random.key(0), X)) == jax.tree.map(jnp.shape, variables)
    random = np.random.default_rng(0)
    stats = jax.tree.map(lambda leaf: jnp.asarray(random.uniform(0.5, 2, 32), jnp.float32), variables["batch_stats"])
    variables = {"params": variables["params"], "batch_stats": stats}
    np.testing.assert_allclose(Both(True).apply(variables, X), Both(False).apply(variables, X), rtol=1e-4, atol=1e-4)


def test_the_epsilon_of_a_norm_counts():
    plain, large = (Norm("frozen_bn", eps).init_with_output(jax.random.key(0), X, False)[0] for eps in (0.0, 3.0))
    np.testing.assert_allclose(plain, X, atol=1e-6)
    np.testing.assert_allclose(large, X / 2.0, rtol=1e-5)


def test_a_norm_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="norm: expected one of"):
        Norm("layer").init(jax.random.key(0), X, True)


@pytest.mark.parametrize(("norm", "names"), [("none", {"c"}), ("gn", {"c", "c_norm"})])
def test_a_convolution_with_its_norm(norm, names):
    class Both(nn.Module):
        @nn.compact
        def __call__(self, x):
            return conv_norm(x, True, features=16, kernel_size=1, norm=norm, dtype=jnp.float32, name="c")

    y, variables = Both().init_with_output(jax.random.key(0), X)
    assert y.shape == (2, 6, 5, 16) and set(variables["params"]) == names
    assert ("bias" in variables["params"]["c"]) == (norm == "none")
