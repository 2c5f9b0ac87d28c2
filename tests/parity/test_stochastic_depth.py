"""The rates of stochastic depth are torchvision's."""

import numpy as np
import pytest

from lga_jax.models.backbones.stochastic_depth import depth_rates
from tests.parity.reference import torch


@pytest.mark.parametrize(("name", "num_blocks", "last_rate"), [("convnext_tiny", 18, 0.1), ("swin_t", 12, 0.2)])
def test_rates_of_stochastic_depth(name, num_blocks, last_rate):
    models, ops = (pytest.importorskip(f"torchvision.{part}") for part in ("models", "ops"))
    with torch.device("meta"):
        network = getattr(models, name)()
    rates = [module.p for module in network.modules() if isinstance(module, ops.StochasticDepth)]
    assert len(rates) == num_blocks
    np.testing.assert_allclose(depth_rates(num_blocks, last_rate), rates, atol=1e-7)
