"""A graph of ONNX operators under construction. Tensors have numpy's operators and static shapes.

The operators are those of opset 17, which onnxruntime, OpenVINO and TensorRT read, or, for bfloat16, of opset 22, the
first whose convolutions have this type. `onnx` is imported only here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET, OPSET_BFLOAT16 = 17, 22
_IR_VERSIONS = {OPSET: 8, OPSET_BFLOAT16: 10}  # the versions of the file format that came with the opsets
_REDUCES_INPUTS = 18  # from this opset on, the axes of reductions are an input

DType = type | np.dtype
Shape = tuple[int | None, ...]  # None: a length that depends on the image


class Graph:
    """Collects operators and constants of an opset. `file` makes the model of them."""

    def __init__(self, opset: int = OPSET) -> None:
        self.opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple, Tensor] = {}
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Shape, dtype: DType) -> "Tensor":
        """An input of the model."""
        self._inputs.append(_value_info(name, shape, np.dtype(dtype)))
        return Tensor(self, name, shape, np.dtype(dtype))

    def constant(self, value: Any, dtype: DType = np.float32) -> "Tensor":
        """A constant; equal constants are stored once."""
        array = np.ascontiguousarray(np.asarray(value, dtype))
        array = array.reshape(np.shape(value))  # ascontiguousarray makes a number one-dimensional
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._initializers.append(numpy_helper.from_array(array, name))
            self._constants[key] = Tensor(self, name, array.shape, array.dtype)
        return self._constants[key]

    def node(
        self,
        kind: str,
        inputs: Sequence["Tensor | None"],
        outputs: Sequence[tuple[Shape, DType]],
        **attributes: Any,
    ) -> list["Tensor"]:
        """Adds an operator. `outputs`: shape and dtype of each; an input of None is left out."""
        name = f"{kind}_{len(self._nodes)}"
        results = [
            Tensor(self, f"{name}_{number}" if number else name, tuple(shape), np.dtype(dtype))
            for number, (shape, dtype) in enumerate(outputs)
        ]
        names = [tensor.name if tensor is not None else "" for tensor in inputs]
        self._nodes.append(helper.make_node(kind, names, [r.name for r in results], name=name, **attributes))
        return results

    def file(self, outputs: dict[str, "Tensor"], metadata: dict[str, str]) -> bytes:
        """The bytes of a checked model whose outputs have these names."""
        renamed = [helper.make_node("Identity", [tensor.name], [name]) for name, tensor in outputs.items()]
        infos = [_value_info(name, tensor.shape, tensor.dtype) for name, tensor in outputs.items()]
        graph = helper.make_graph([*self._nodes, *renamed], "detector", self._inputs, infos, self._initializers)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(
            graph, producer_name="lga_jax", opset_imports=opsets, ir_version=_IR_VERSIONS[self.opset]
        )
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()


class Tensor:
    """An input, constant or result of a graph."""

    def __init__(self, graph: Graph, name: str, shape: Shape, dtype: np.dtype) -> None:
        self.graph, self.name, self.shape, self.dtype = graph, name, shape, dtype

    def apply(self, kind: str, *others: "Tensor", shape: Shape | None = None, **attributes: Any) -> "Tensor":
        """An operator with one result of this dtype, and of this shape unless another is given."""
        result = (self.shape if shape is None else shape, self.dtype)
        return self.graph.node(kind, [self, *others], [result], **attributes)[0]

    def _binary(self, kind: str, other: Any, swapped: bool = False, dtype: DType | None = None) -> "Tensor":
        other = other if isinstance(other, Tensor) else self.constant(other)
        operands = [other, self] if swapped else [self, other]
        result = (_broadcast(self.shape, other.shape), dtype or self.dtype)
        return self.graph.node(kind, operands, [result])[0]

    def __add__(self, other: Any) -> "Tensor":
        return self._binary("Add", other)

    def __radd__(self, other: Any) -> "Tensor":
        return self._binary("Add", other, swapped=True)

    def __sub__(self, other: Any) -> "Tensor":
        return self._binary("Sub", other)

    def __mul__(self, other: Any) -> "Tensor":
        return self._binary("Mul", other)

    def __rmul__(self, other: Any) -> "Tensor":
        return self._binary("Mul", other, swapped=True)

    def __truediv__(self, other: Any) -> "Tensor":
        return self._binary("Div", other)

    def __floordiv__(self, other: Any) -> "Tensor":
        return self._binary("Div", other)  # of integers

    def __matmul__(self, other: "Tensor") -> "Tensor":
        lead = _broadcast(self.shape[:-2], other.shape[:-2])
        return self.apply("MatMul", other, shape=(*lead, self.shape[-2], other.shape[-1]))

    def __gt__(self, other: Any) -> "Tensor":
        return self._binary("Greater", other, dtype=np.bool_)

    def __ge__(self, other: Any) -> "Tensor":
        return self._binary("GreaterOrEqual", other, dtype=np.bool_)

    def __lt__(self, other: Any) -> "Tensor":
        return self._binary("Less", other, dtype=np.bool_)

    def __and__(self, other: "Tensor") -> "Tensor":
        return self._binary("And", other)

    def equals(self, other: Any) -> "Tensor":
        """Elementwise equality."""
        return self._binary("Equal", other, dtype=np.bool_)

    def maximum(self, other: Any) -> "Tensor":
        """The larger value of each pair."""
        return self._binary("Max", other)

    def minimum(self, other: Any) -> "Tensor":
        """The smaller value of each pair."""
        return self._binary("Min", other)

    def constant(self, value: Any) -> "Tensor":
        """A constant of this tensor's type."""
        return self.graph.constant(value, self.dtype)

    def cast(self, dtype: DType) -> "Tensor":
        """The values in another type; this tensor if it has the type."""
        if self.dtype == dtype:
            return self
        to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.graph.node("Cast", [self], [(self.shape, dtype)], to=to)[0]

    def reshape(self, *shape: int) -> "Tensor":
        """Another shape; at most one -1."""
        if -1 in shape:
            known = -int(np.prod(shape))
            shape = tuple(int(np.prod(self.shape)) // known if side == -1 else side for side in shape)
        return self.apply("Reshape", self.graph.constant(shape, np.int64), shape=shape)

    def fixed(self, *shape: int) -> "Tensor":
        """This shape, where the graph does not know that a length is always the same."""
        return self.apply("Reshape", self.graph.constant(shape, np.int64), shape=shape)

    def transpose(self, *axes: int) -> "Tensor":
        """The axes in another order."""
        return self.apply("Transpose", shape=tuple(self.shape[axis] for axis in axes), perm=axes)

    def slice(self, axis: int, start: int, end: int) -> "Tensor":
        """The entries start to end - 1 of an axis."""
        where = [self.graph.constant([number], np.int64) for number in (start, end, axis)]
        return self.apply("Slice", *where, shape=_replaced(self.shape, axis, end - start))

    def gather(self, index: "Tensor", axis: int = 0) -> "Tensor":
        """The entries of an axis with these indices."""
        shape = (*self.shape[:axis], *index.shape, *self.shape[axis + 1 :])
        return self.apply("Gather", index, shape=shape, axis=axis)

    def reduce(self, kind: str, axis: int, keepdims: bool = False) -> "Tensor":
        """`kind`: "Max", "Min" or "Mean" along an axis."""
        axis %= len(self.shape)
        kept = (1,) if keepdims else ()
        shape = (*self.shape[:axis], *kept, *self.shape[axis + 1 :])
        if self.graph.opset < _REDUCES_INPUTS:
            return self.apply(f"Reduce{kind}", shape=shape, axes=[axis], keepdims=int(keepdims))
        return self.apply(f"Reduce{kind}", self.graph.constant([axis], np.int64), shape=shape, keepdims=int(keepdims))

    def top(self, count: int) -> tuple["Tensor", "Tensor"]:
        """The largest values of a vector in descending order, and their indices. Of equal values the first is first."""
        k = self.graph.constant([count], np.int64)
        outputs = [((count,), self.dtype), ((count,), np.int64)]
        values, index = self.graph.node("TopK", [self, k], outputs, axis=0, largest=1, sorted=1)
        return values, index

    def scattered(self, index: "Tensor", values: "Tensor") -> "Tensor":
        """This vector with other values at these indices."""
        return self.apply("ScatterElements", index, values, axis=0)


def where(condition: Tensor, chosen: Tensor, other: Any) -> Tensor:
    """`chosen` where the condition is true, elsewhere `other`."""
    other = other if isinstance(other, Tensor) else chosen.graph.constant(other, chosen.dtype)
    shape = _broadcast(_broadcast(condition.shape, chosen.shape), other.shape)
    return condition.graph.node("Where", [condition, chosen, other], [(shape, chosen.dtype)])[0]


def concat(parts: Sequence[Tensor], axis: int) -> Tensor:
    """The parts one behind the other."""
    axis %= len(parts[0].shape)
    sides = [part.shape[axis] for part in parts]
    total = None if None in sides else sum(sides)
    others = parts[1:]
    return parts[0].apply("Concat", *others, shape=_replaced(parts[0].shape, axis, total), axis=axis)


def _replaced(shape: Shape, axis: int, side: int | None) -> Shape:
    axis %= len(shape)
    return (*shape[:axis], side, *shape[axis + 1 :])


def _broadcast(one: Shape, other: Shape) -> Shape:
    """numpy's rule; a length that depends on the image meets only itself and 1."""
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    padded = (1,) * (len(longer) - len(shorter)) + tuple(shorter)
    pairs = list(zip(longer, padded, strict=True))
    if any(1 not in pair and pair[0] != pair[1] for pair in pairs):
        raise ValueError(f"shapes {one} and {other} do not fit")
    return tuple(b if a == 1 else a for a, b in pairs)


def _value_info(name: str, shape: Shape, dtype: np.dtype) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)
