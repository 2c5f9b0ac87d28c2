"""Tensors of a graph behave as numpy's arrays."""

import numpy as np
import pytest

from lga_jax.exporting.onnx_writer.graph import OPSET, OPSET_BFLOAT16, Graph, concat, where
from tests.exporting.onnx_writer.running import run

X = np.float32([[1, -2, 3], [4, 5, -6]])
Y = np.float32([3, -1, 2])


@pytest.mark.parametrize("opset", [OPSET, OPSET_BFLOAT16])
def test_operators_are_numpys(opset):
    def all_of(x, y):
        values, index = y.top(2)
        flat = x.reshape(-1)
        return [
            x + y, 1.0 + x, x - y, 2.0 * x, x / 4.0, x.maximum(y), x.minimum(0.0), x @ x.transpose(1, 0),
            x > y, x >= y, x < y, (x > 0.0) & (y > 0.0), x.equals(4.0), where(x > 0.0, x, -1.0),
            x.slice(1, 1, 3), x.gather(index, axis=1), x.reduce("Max", 1), x.reduce("Mean", -1, keepdims=True),
            values, index, concat([x, x * 0.0], axis=0), flat.scattered(index, values), x.cast(np.int64) // 2,
        ]  # fmt: skip

    flat = X.reshape(-1).copy()
    flat[[0, 2]] = [3, 2]
    expected = [
        X + Y, 1 + X, X - Y, 2 * X, X / 4, np.maximum(X, Y), np.minimum(X, 0), X @ X.T,
        X > Y, X >= Y, X < Y, (X > 0) & (Y > 0), X == 4, np.where(X > 0, X, -1),
        X[:, 1:3], X[:, [0, 2]], X.max(1), X.mean(1, keepdims=True),
        np.float32([3, 2]), np.int64([0, 2]), np.concatenate([X, 0 * X]), flat, np.trunc(X / 2).astype(np.int64),
    ]  # fmt: skip
    for number, (one, other) in enumerate(zip(run(all_of, X, Y, opset=opset), expected, strict=True)):
        np.testing.assert_allclose(one, other, err_msg=str(number))


def test_of_equal_values_the_first_is_first():
    assert run(lambda x: x.top(3)[1], np.float32([1, 2, 2, 1])).tolist() == [1, 2, 0]


def test_shapes_that_do_not_fit_are_refused():
    graph = Graph()
    with pytest.raises(ValueError, match="do not fit"):
        graph.constant(np.zeros((2, 3))) + graph.constant(np.zeros((3, 2)))


def test_equal_constants_are_stored_once_and_the_versions_are_those_that_others_read():
    import onnx

    graph = Graph()
    x = graph.input("x", (2,), np.float32)
    model = onnx.load_from_string(graph.file({"y": x + np.ones(2) + np.ones(2) + 1.0}, {"name": "text"}))
    assert [tuple(one.dims) for one in model.graph.initializer] == [(2,), ()]
    assert (model.opset_import[0].version, model.ir_version) == (OPSET, 8) == (17, 8)
    assert [(one.key, one.value) for one in model.metadata_props] == [("name", "text")]
