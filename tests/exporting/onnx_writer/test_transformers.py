"""A block of Swin alone, where windows are moved and completed; test_backbones.py has the whole network."""

import jax
import numpy as np
import pytest

from lga_jax.exporting.onnx_writer.transformers import _block
from lga_jax.models.backbones.swin import Block
from tests.exporting.onnx_writer.running import run, variables_of, weights_of


@pytest.mark.parametrize("version", [1, 2])
def test_a_block_with_moved_windows(version):
    module = Block(heads=2, version=version, shift=3, dtype=np.float32)
    x = np.random.default_rng(0).normal(size=(1, 5, 19, 4)).astype(np.float32)  # one axis has a single window
    variables = variables_of(module, x)
    expected = jax.jit(module.apply)(variables, x)
    (found,) = run(lambda x: [_block(x, version, 2, 3, weights_of(variables))], x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
