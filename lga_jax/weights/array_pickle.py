"""Reads pickles of numpy arrays (weights of Detectron2, Detectron and MSRA) without running their code.

A pickle is a program. This reader accepts containers, numbers, strings and numeric arrays, which it builds itself. It
refuses everything else and names it.
"""

import io
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from lga_jax.errors import UserError


def unpickle_arrays(data: bytes) -> Any:
    """Unpickles `data`; every array becomes a PickledArray.

    Raises UserError if the pickle names anything but arrays, and the errors of pickle if it is damaged.
    """
    check_claims(data)
    return ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()  # Python 2 wrote bytes as text


def forbidden(name: str) -> UserError:
    """The error for a file with a name other than that of an array."""
    return UserError(
        "",
        expected="arrays only",
        found=f"{name}, which could run code",
        remedy="if you trust the file, save its state dict as .npz or .safetensors with the program that wrote it",
    )


def check_claims(data: bytes) -> None:
    """Raises ValueError if a pickle declares more memory than it needs, because the unpickler would allocate it."""
    for opcode, argument, position in pickletools.genops(data):  # genops raises for arguments longer than the file
        if "PUT" in opcode.name and argument > position:
            raise ValueError(f"expected to remember at most {position} values, found {argument}")


class _PickledType:
    """Replaces numpy.dtype in a pickle; numeric types only."""

    def __init__(self, code: str, *_: object) -> None:
        if not re.fullmatch(r"[<>=|]?[biufc]\d{1,2}", code):
            raise ValueError(f"expected arrays of numbers, found the type {code[:20]!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class PickledArray:
    """Replaces numpy.ndarray in a pickle, because numpy trusts the types and sizes in the file."""

    array: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        shape, kind, column_major, data = state[-4:]
        self.array = _from_buffer(data, kind, shape, "F" if column_major else "C")


def _from_buffer(data: bytes | bytearray | str, kind: _PickledType, shape: tuple, order: str) -> np.ndarray:
    # Python 2 wrote bytes as strings; they arrive decoded as latin-1.
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


class ArrayUnpickler(pickle.Unpickler):
    """Builds containers, numbers, strings and numpy arrays; refuses a pickle with any other name."""

    allowed: Mapping[str, Any] = {
        "numpy.core.multiarray._reconstruct": lambda *_: PickledArray(),
        "numpy.core.multiarray.scalar": _scalar,
        "numpy.core.numeric._frombuffer": _from_buffer,
        "numpy.ndarray": PickledArray,
        "numpy.dtype": _PickledType,
        "collections.OrderedDict": OrderedDict,
        "_codecs.encode": _encode,
        "builtins.bytes": _no_bytes,  # empty bytes in protocol 2
        "__builtin__.bytes": _no_bytes,
    }

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if full_name not in self.allowed:
            raise forbidden(ascii(f"{module}.{name}")[1:-1])
        return self.allowed[full_name]
