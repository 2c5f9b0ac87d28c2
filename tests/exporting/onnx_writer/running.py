"""Runs what the writer makes of some tensors in onnxruntime."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.exporting.onnx_writer.graph import OPSET, Graph
from lga_jax.exporting.onnx_writer.layers import Weights

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'lga_jax[test]'")


def session_of(data):
    """An onnxruntime session for the bytes of a model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(function, *arrays, opset=OPSET):
    """The arrays for the tensors that `function` returns, one, a tuple or a list, for tensors of these arrays."""
    graph = Graph(opset)
    arrays = [np.asarray(array) for array in arrays]
    inputs = {f"input_{number}": array for number, array in enumerate(arrays)}
    tensors = function(*(graph.input(name, array.shape, array.dtype) for name, array in inputs.items()))
    leaves, form = jax.tree.flatten(tensors)
    outputs = {f"output_{number}": tensor for number, tensor in enumerate(leaves)}
    found = session_of(graph.file(outputs, {})).run(list(outputs), inputs)
    for array, tensor in zip(found, leaves, strict=True):
        assert len(array.shape) == len(tensor.shape) and array.dtype == tensor.dtype
        assert all(expected in (None, side) for expected, side in zip(tensor.shape, array.shape, strict=True))
    return jax.tree.unflatten(form, found)


def weights_of(variables):
    return Weights(variables.get("params", {}), variables.get("batch_stats", {}))


def random_like(shapes, seed=0):
    """Random variables of these shapes; variances and scales are positive."""
    rng = np.random.default_rng(seed)

    def leaf(path, shape):
        values = rng.normal(0, 0.3, shape.shape).astype(np.float32)
        if path[-1].key == "kernel":
            return values / 0.3 * np.float32(2 / np.prod(shape.shape[:-1])) ** 0.5  # keeps the size of activations
        return np.abs(values) + 0.5 if path[-1].key in ("scale", "var") else values

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def variables_of(module, *arguments):
    """Random variables of a flax module that is called with these arguments."""
    arguments = jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, arguments)
    return random_like(jax.eval_shape(lambda: module.init(jax.random.key(0), *arguments)))


def channels_first(x):
    return np.moveaxis(np.asarray(x), -1, -3)


def close(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
