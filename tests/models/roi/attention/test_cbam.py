import jax
import jax.numpy as jnp
import numpy as np

from lga_jax.models.roi.attention.cbam import CBAM

CROPS = jnp.asarray(np.random.default_rng(0).normal(size=(5, 7, 7, 16)), jnp.float32)


def crop(level):
    assert level == "pyramid"
    return CROPS


def test_cbam_scales_each_channel_and_each_cell_by_a_gate():
    block = CBAM(reduction=4, kernel_size=7)
    attention, _ = block.init_with_output(jax.random.key(0), crop, True)
    gate = np.asarray(attention.fused / CROPS)
    assert np.all((gate > 0.0) & (gate < 1.0))
    # A product of a channel gate and a cell gate: its logarithm is a sum, so second differences vanish.
    log = np.log(gate).reshape(5, 49, 16)
    cross = log - log[:, :1] - log[:, :, :1] + log[:, :1, :1]
    np.testing.assert_allclose(cross, 0.0, atol=1e-3)
    assert log.std(axis=1).min() > 0 and log.std(axis=2).min() > 0
