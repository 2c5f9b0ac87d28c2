"""Reads pickles of numpy arrays (weights of Detectron2, Detectron and MSRA) without running their code.

A pickle is a program. This reader accepts containers, numbers, texts and numeric arrays, which it builds itself. It
refuses every other name. lga_jax.weights.pickle_machine executes the program.
"""

import re
from collections import OrderedDict
from typing import Any

import numpy as np

from lga_jax.weights.pickle_machine import Stateful, execute_bytes

MAX_DIMENSIONS = 32
_MAX_SIDE = 2**62


def unpickle_arrays(data: bytes) -> Any:
    """Unpickles `data`; every array becomes a PickledArray.

    Raises UserError if the pickle names anything but arrays, and ValueError or other exceptions if it is damaged.
    """
    return execute_bytes(data, NAMES)


def sizes(value: object) -> tuple[int, ...]:
    """A shape or strides from a file. Raises ValueError for anything but a short tuple of natural numbers."""
    if not isinstance(value, tuple) or len(value) > MAX_DIMENSIONS:
        raise ValueError(f"expected at most {MAX_DIMENSIONS} sizes")
    if not all(type(size) is int and 0 <= size < _MAX_SIDE for size in value):
        raise ValueError("expected sizes that are natural numbers")
    return value


class _PickledType(Stateful):
    """Replaces numpy.dtype in a pickle; numeric types only."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[<>=|]?[biufc]\d{1,2}", code):
            found = repr(code[:20]) if isinstance(code, str) else f"a {type(code).__name__}"
            raise ValueError(f"expected arrays of numbers, found the type {found}")
        self.dtype = np.dtype(code)

    def set_state(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2:
            raise ValueError("expected the state of a type")
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class PickledArray(Stateful):
    """Replaces numpy.ndarray in a pickle, because numpy trusts the types and sizes in the file."""

    array: np.ndarray | None = None

    def set_state(self, state: object) -> None:
        """Takes (version, shape, type, column_major, data)."""
        if not isinstance(state, tuple) or len(state) < 4:
            raise ValueError("expected the state of an array")
        shape, kind, column_major, data = state[-4:]
        self.array = _from_buffer(data, kind, shape, "F" if column_major is True else "C")


def _from_buffer(data: object, kind: object, shape: object, order: object) -> np.ndarray:
    # Python 2 wrote bytes as strings; they arrive decoded as latin-1.
    data = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(data, bytes | bytearray) or not isinstance(kind, _PickledType) or order not in ("C", "F"):
        raise ValueError("expected an array of bytes")
    return np.frombuffer(data, kind.dtype).reshape(sizes(shape), order=order)


def _scalar(kind: object, data: object) -> np.ndarray:
    return _from_buffer(data, kind, (), "C")


def _encode(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("expected bytes written as latin-1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _ordered(pairs: object = ()) -> OrderedDict:
    """An OrderedDict, from pairs if Python 2 wrote it. Keys other than texts are left out."""
    if not isinstance(pairs, tuple | list) or not all(isinstance(p, tuple | list) and len(p) == 2 for p in pairs):
        raise ValueError("expected pairs of key and value")
    return OrderedDict((key, value) for key, value in pairs if type(key) is str)


NAMES = {
    "numpy.core.multiarray._reconstruct": lambda *_: PickledArray(),
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy.ndarray": None,
    "numpy.dtype": _PickledType,
    "collections.OrderedDict": _ordered,
    "_codecs.encode": _encode,
    "builtins.bytes": _no_bytes,  # empty bytes in protocol 2
    "__builtin__.bytes": _no_bytes,
}
