"""Modules that the writer does not know; tests/exporting/test_onnx_file.py has the whole detector."""

import flax.linen as nn
import pytest

from lga_jax.errors import UserError
from lga_jax.models.build import build_detector
from lga_jax.structs import Attention
from tests.exporting.onnx_writer.running import onnxruntime
from tests.models import tiny

assert onnxruntime


class Own(nn.Module):
    def __call__(self, crop, train):
        return Attention(fused=crop("pyramid"))


def test_a_module_that_is_not_built_in_is_a_users_error():
    from lga_jax.exporting.onnx_writer.detector import onnx_model

    detector = build_detector(tiny.model_config(), 3, attention=Own())
    with pytest.raises(UserError) as raised:
        onnx_model(detector, {}, {}, (64, 64), {})
    assert raised.value.subject == "format onnx: attention" and raised.value.found == "Own"
