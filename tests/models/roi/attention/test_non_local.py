import jax
import jax.numpy as jnp
import numpy as np

from lga_jax.models.roi.attention.non_local import NonLocal

CROPS = jnp.asarray(np.random.default_rng(0).normal(size=(5, 7, 7, 16)), jnp.float32)


def crop(level):
    assert level == "pyramid"
    return CROPS


def test_non_local_starts_as_the_identity_and_then_sees_every_cell():
    block = NonLocal(reduction=2)
    attention, variables = block.init_with_output(jax.random.key(0), crop, True)
    np.testing.assert_array_equal(attention.fused, CROPS)
    params = dict(variables["params"])
    params["output"] = dict(params["output"], kernel=jnp.ones_like(params["output"]["kernel"]))
    one_cell = lambda x: block.apply({"params": params}, lambda level: x, True).fused[0, 3, 3].sum()  # noqa: E731
    gradient = jax.grad(one_cell)(CROPS)
    assert jnp.all(jnp.any(gradient[0] != 0.0, axis=-1))
    assert jnp.all(gradient[1:] == 0.0)


def test_non_local_is_softmax_attention():
    block = NonLocal(reduction=2)
    variables = block.init(jax.random.key(0), crop, True)
    params = dict(variables["params"])
    params["output"] = dict(kernel=jax.random.normal(jax.random.key(3), (8, 16)), bias=jnp.zeros(16))
    x = np.asarray(CROPS[0]).reshape(49, 16)
    query, key, value = (x @ np.asarray(params[name]["kernel"]) for name in ("query", "key", "value"))
    affinity = np.exp(query @ key.T)
    affinity /= affinity.sum(axis=1, keepdims=True)
    wanted = x + affinity @ value @ np.asarray(params["output"]["kernel"])
    got = block.apply({"params": params}, crop, True).fused[0].reshape(49, 16)
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-3)
