"""Layers give what their flax modules give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.exporting.onnx_writer.layers import conv, conv_norm, dense, pointwise, relu6
from lga_jax.models import layers
from tests.exporting.onnx_writer.running import channels_first, close, random_like, run, variables_of, weights_of

X = np.random.default_rng(0).normal(size=(2, 6, 7, 32)).astype(np.float32)


class ConvNorm(layers.nn.Module):
    kind: str

    @layers.nn.compact
    def __call__(self, x):
        return layers.conv_norm(x, False, features=32, kernel_size=3, norm=self.kind, dtype=jnp.float32, name="conv")


@pytest.mark.parametrize("kind", ["none", *layers.NORMS])
def test_a_convolution_with_its_norm(kind):
    module = ConvNorm(kind)
    variables = variables_of(module, X)
    expected = jax.jit(module.apply)(variables, X)
    found = run(lambda x: conv_norm(x, weights_of(variables), "conv", "conv_norm", kind, 1e-5), channels_first(X))
    close(found, channels_first(expected), 2e-5)


def test_stride_padding_and_groups_are_those_of_jax():
    kernel = np.random.default_rng(1).normal(size=(3, 3, 1, 32)).astype(np.float32)
    padding = ((0, 1), (1, 2))
    expected = jax.lax.conv_general_dilated(
        jnp.asarray(X), kernel, (2, 2), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=32
    )
    found = run(lambda x: conv(x, kernel, stride=2, padding=padding, groups=32), channels_first(X))
    close(found, channels_first(expected), 2e-5)


def test_dense_layers_read_flattened_crops_and_channels():
    shapes = dict(kernel=jax.ShapeDtypeStruct((6 * 7 * 32, 5), np.float32), bias=jax.ShapeDtypeStruct((5,), np.float32))
    own = random_like({"params": shapes})
    flat = channels_first(X).reshape(2, -1)
    expected = X.reshape(2, -1) @ own["params"]["kernel"] + own["params"]["bias"]
    close(run(lambda x: dense(x, weights_of(own), from_crop=(6, 7, 32)), flat), expected, 1e-4)
    kernel = own["params"]["kernel"][:32]
    found = run(lambda x: pointwise(x, weights_of({"params": {"kernel": kernel}})), channels_first(X))
    close(found, channels_first(X @ kernel))


def test_relu6_is_clipped():
    assert run(relu6, np.float32([-1, 3, 9])).tolist() == [0, 3, 6]
