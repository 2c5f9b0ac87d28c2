"""Pickles of numpy arrays, as Detectron2, Detectron and MSRA distribute weights, read without trusting them.

A pickle is a program. This reader knows containers, numbers, text and arrays of numbers, builds the arrays itself, and
refuses everything else by name.
"""

import io
import pickle
import pickletools
import re
from collections import OrderedDict
from typing import Any

import numpy as np

from lga_jax.errors import UserError


def unpickle_arrays(data: bytes) -> Any:
    """What was pickled, with a PickledArray in the place of every array.

    Raises UserError for a pickle that names anything but arrays, and what pickle raises for a damaged one.
    """
    _check_claims(data)
    return _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()  # Python 2 wrote bytes as text


def forbidden(name: str) -> UserError:
    """The error for a file that names what is no part of an array."""
    return UserError(
        "",
        expected="arrays only",
        found=f"{name}, which could run code",
        remedy="if you trust the file, save the state dict alone "
        "as .npz or .safetensors with the program that wrote it",
    )


def _check_claims(data: bytes) -> None:
    """Raises ValueError where a pickle claims more than it has: the unpickler would allocate that first."""
    for opcode, argument, position in pickletools.genops(data):  # which raises for arguments longer than the file
        if "PUT" in opcode.name and argument > position:
            raise ValueError(f"expected to remember a value as one of {position} at most, found {argument}")


class _PickledType:
    """Stands for numpy.dtype in a pickle: plain numbers only."""

    def __init__(self, code: str, *_: object) -> None:
        if not re.fullmatch(r"[<>=|]?[biufc]\d{1,2}", code):
            raise ValueError(f"expected arrays of numbers, found the type {code[:20]!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class PickledArray:
    """Stands for numpy.ndarray in a pickle: numpy's own would trust the types and sizes that the file claims."""

    array: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        shape, kind, column_major, data = state[-4:]
        self.array = _from_buffer(data, kind, shape, "F" if column_major else "C")


def _from_buffer(data: bytes | bytearray | str, kind: _PickledType, shape: tuple, order: str) -> np.ndarray:
    # Python 2 wrote bytes as its strings, which arrive decoded as latin-1.
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, kind.dtype).reshape(shape, order=order)


def _scalar(kind: _PickledType, data: bytes | str) -> np.ndarray:
    return _from_buffer(data, kind, (), "C")


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"expected bytes written as latin-1, found {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


_ALLOWED = {
    "numpy.core.multiarray._reconstruct": lambda *_: PickledArray(),
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy.ndarray": PickledArray,
    "numpy.dtype": _PickledType,
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": _encode,
    "builtins.bytes": _no_bytes,  # how protocol 2 writes empty ones
    "__builtin__.bytes": _no_bytes,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Builds containers, numbers, text and numpy arrays. A pickle that names anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if full_name not in _ALLOWED:
            raise forbidden(ascii(f"{module}.{name}")[1:-1])
        return _ALLOWED[full_name]
