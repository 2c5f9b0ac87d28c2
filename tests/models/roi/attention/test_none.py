import jax
import jax.numpy as jnp
import numpy as np

from lga_jax.models.roi.attention.none import NoAttention

CROPS = jnp.asarray(np.random.default_rng(0).normal(size=(5, 7, 7, 16)), jnp.float32)


def crop(level):
    assert level == "pyramid"
    return CROPS


def test_no_attention_is_the_identity():
    fused, variables = NoAttention().init_with_output(jax.random.key(0), crop, False)
    assert not variables
    np.testing.assert_array_equal(fused.fused, CROPS)
    assert fused.gaussians is None and fused.guide_logits is None
