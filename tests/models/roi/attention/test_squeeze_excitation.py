import jax
import jax.numpy as jnp
import numpy as np

from lga_jax.models.roi.attention.squeeze_excitation import SqueezeExcitation

CROPS = jnp.asarray(np.random.default_rng(0).normal(size=(5, 7, 7, 16)), jnp.float32)


def test_every_channel_has_one_weight_from_the_mean():
    attention, variables = SqueezeExcitation(reduction=4).init_with_output(
        jax.random.key(0), lambda level: {"pyramid": CROPS}[level], True
    )
    params = jax.tree.map(np.asarray, variables["params"])
    hidden = np.maximum(
        np.asarray(CROPS).mean(axis=(1, 2)) @ params["squeeze"]["kernel"] + params["squeeze"]["bias"], 0
    )
    gate = 1 / (1 + np.exp(-(hidden @ params["excite"]["kernel"] + params["excite"]["bias"])))
    np.testing.assert_allclose(attention.fused, np.asarray(CROPS) * gate[:, None, None], rtol=1e-4, atol=1e-6)
    assert gate.std(axis=1).min() > 0
