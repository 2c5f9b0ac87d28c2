import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.models.fpn import FPN, averaged_pyramid, pyramid_strides

STRIDES = (4, 8, 16, 32)
RANDOM = np.random.default_rng(0)
FEATURES = [jnp.asarray(RANDOM.normal(size=(1, 16 >> i, 24 >> i, 4 << i)), jnp.float32) for i in range(4)]


def test_levels_have_one_width_and_halve_in_size():
    pyramid, _ = FPN(channels=8, strides=STRIDES).init_with_output(jax.random.key(0), FEATURES, train=False)
    assert [p.shape for p in pyramid] == [(1, 16, 24, 8), (1, 8, 12, 8), (1, 4, 6, 8), (1, 2, 3, 8), (1, 1, 2, 8)]
    np.testing.assert_array_equal(pyramid[4], pyramid[3][:, ::2, ::2])


def test_coarse_features_reach_finer_levels_and_not_the_reverse():
    fpn = FPN(channels=8, strides=STRIDES)
    variables = fpn.init(jax.random.key(0), FEATURES, train=False)
    gradients = jax.grad(lambda f: fpn.apply(variables, f, train=False)[1].sum())(FEATURES)  # of P3
    assert [bool(jnp.any(g != 0)) for g in gradients] == [False, True, True, True]


def test_top_down_is_nearest_neighbour():
    fpn = FPN(channels=1, strides=(4, 8))
    zeros = [jnp.zeros((1, 4, 4, 1)), jnp.array([[[[1.0], [2.0]], [[3.0], [4.0]]]])]
    variables = fpn.init(jax.random.key(0), zeros, train=False)
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    for name in ("lateral2", "lateral3"):
        params[name]["kernel"] = jnp.ones((1, 1, 1, 1))
    params["output2"]["kernel"] = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    p2 = fpn.apply({"params": params}, zeros, train=False)[0]
    np.testing.assert_array_equal(p2[0, :, :, 0], [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])


def test_levels_are_named_and_counted_by_their_strides():
    variables = FPN(channels=8, strides=(8, 16)).init(jax.random.key(0), FEATURES[:2], train=False)
    assert set(variables["params"]) == {"lateral3", "output3", "lateral4", "output4"}
    assert pyramid_strides((8, 16)) == (8, 16, 32)


def test_a_norm_takes_the_place_of_the_bias():
    variables = FPN(channels=8, strides=STRIDES, norm="frozen_bn").init(jax.random.key(0), FEATURES, train=True)
    assert {tuple(conv) for conv in variables["params"].values()} == {("kernel",)}
    norms = {f"{kind}{level}_norm" for kind in ("lateral", "output") for level in (2, 3, 4, 5)}
    assert set(variables["batch_stats"]) == norms
    plain = FPN(channels=8, strides=STRIDES).init(jax.random.key(0), FEATURES, train=True)
    assert set(plain["params"]["lateral2"]) == {"kernel", "bias"}


def test_averaged_pyramid_holds_means_of_blocks():
    c2 = jnp.asarray(RANDOM.normal(size=(1, 16, 24, 3)), jnp.float32)
    levels = averaged_pyramid(c2, 4)
    assert [level.shape for level in levels] == [(1, 16 >> i, 24 >> i, 3) for i in range(4)]
    np.testing.assert_allclose(levels[3], c2.reshape(1, 2, 8, 3, 8, 3).mean(axis=(2, 4)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_averaged_pyramid_does_not_average_in_what_lies_outside_and_keeps_its_dtype(dtype):
    levels = averaged_pyramid(jnp.ones((1, 5, 7, 1), dtype), 4)
    assert all(level.dtype == dtype and jnp.all(level == 1.0) for level in levels)
