"""Files that PyTorch writes (.pth, .pt, .bin), read without PyTorch and without trusting them.

Both kinds hold a pickle that names storages (flat arrays of one type) and the views of them that are the tensors. The
newer kind is a zip archive with a member for each storage; the older one is a row of pickles with the storages behind.
"""

import io
import math
import struct
import zipfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from lga_jax.weights.array_pickle import NAMES, PickledArray, sizes
from lga_jax.weights.pickle_machine import Global, Opaque, execute

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # the older format
_TYPES = {
    "Float": np.float32,
    "Double": np.float64,
    "Half": np.float16,
    "BFloat16": jnp.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
}


def read_torch_row(path: Path) -> Any:
    """The content of a file of the older kind, with a PickledArray in the place of every tensor.

    Raises UserError for a file that names anything but tensors and what stands beside them in checkpoints, ValueError
    and other exceptions for a damaged one.
    """
    with path.open("rb") as file:
        return _read_row(file, path.stat().st_size)


def read_torch_archive(archive: zipfile.ZipFile) -> Any:
    """`read_torch_row` for the newer kind."""
    (member,) = (info for info in archive.infolist() if info.filename.endswith("/data.pkl"))
    folder = member.filename.removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist():
        _check_order(archive.read(f"{folder}byteorder") == b"little")
    storages: dict[str, _Storage] = {}
    content = _unpickle(io.BytesIO(archive.read(member)), member.file_size, storages)
    for key, storage in storages.items():
        storage.fill(archive.read(f"{folder}data/{key}"))
    return content


def _read_row(file: io.BufferedIOBase, size: int) -> Any:
    magic, protocol, system = (_unpickle(file, size, {}) for _ in range(3))
    if (magic, protocol) != (_MAGIC, _PROTOCOL):
        raise ValueError("expected the beginning of a file of PyTorch")
    _check_order(system["little_endian"] is True)
    storages: dict[str, _Storage] = {}
    content = _unpickle(file, size, storages)
    keys = _unpickle(file, size, {})
    if not isinstance(keys, list) or not all(type(key) is str for key in keys) or sorted(keys) != sorted(storages):
        raise ValueError(f"expected the list of the {len(storages)} storages that its tensors are in, found another")
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        if count != storages[key].count:
            raise ValueError(f"expected a storage of {storages[key].count} numbers, found {count}")
        storages[key].fill(file.read(min(storages[key].num_bytes, size)))
    return content


def _check_order(is_little_endian: bool) -> None:
    if not is_little_endian:
        raise ValueError("expected a file that was written on a little-endian machine")


def _unpickle(file: io.BufferedIOBase, size: int, storages: dict[str, "_Storage"]) -> Any:
    """Executes the next pickle of a file and collects the storages that it names."""
    return execute(file, size, _NAMES, lambda pid: _storage(pid, storages))


class _Storage:
    """A flat array whose numbers come after the pickle, and the tensors that wait for them."""

    def __init__(self, dtype: np.dtype, count: int) -> None:
        self.dtype, self.count = dtype, count
        self.tensors: list[_Tensor] = []

    @property
    def num_bytes(self) -> int:
        return self.count * self.dtype.itemsize

    def fill(self, data: bytes) -> None:
        if len(data) != self.num_bytes:
            raise ValueError(f"expected a storage of {self.num_bytes} bytes, found {len(data)}")
        for tensor in self.tensors:
            tensor.array = tensor.view(np.frombuffer(data, self.dtype))


def _storage(pid: object, storages: dict[str, _Storage]) -> _Storage:
    """The storage of a persistent id: ("storage", type, key, device, count), in older files with a view of it."""
    if not isinstance(pid, tuple) or len(pid) not in (5, 6) or (len(pid) == 6 and pid[5] is not None):
        raise ValueError("expected a storage of numbers")
    kind, name, key, _, count = pid[:5]
    if kind != "storage" or type(key) is not str or not isinstance(name, Global):
        raise ValueError("expected a storage of numbers")
    if name.name not in _STORAGES:
        raise ValueError(f"expected a storage of numbers, found {name.name}")
    (count,) = sizes((count,))
    dtype = np.dtype(_STORAGES[name.name])
    storage = storages.setdefault(key, _Storage(dtype, count))
    if (storage.dtype, storage.count) != (dtype, count):
        raise ValueError(f"expected one type and size for storage {key[:20]!r}, found two")
    return storage


class _Tensor(PickledArray):
    """Stands for a tensor: a view of a storage, in units of its numbers."""

    def __init__(self, storage: object, offset: object, shape: object, strides: object, *_: object) -> None:
        if not isinstance(storage, _Storage):
            raise ValueError("expected a tensor in a storage")
        (self.offset,), self.shape, self.strides = sizes((offset,)), sizes(shape), sizes(strides)
        last = self.offset + sum((side - 1) * stride for side, stride in zip(self.shape, self.strides, strict=True))
        count = math.prod(self.shape)
        # Strides of 0 can show one number as often as they like.
        if count and (last >= storage.count or count > storage.count):
            raise ValueError(f"expected a view inside {storage.count} numbers, found {self.shape} from {offset} on")
        storage.tensors.append(self)

    def set_state(self, state: object) -> None:
        """Tensors have no further state."""
        raise ValueError("expected a tensor without a state")

    def view(self, numbers: np.ndarray) -> np.ndarray:
        if 0 in self.shape:
            return np.zeros(self.shape, numbers.dtype)
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides, writeable=False)


def _parameter(tensor: object, *_: object) -> _Tensor:
    if not isinstance(tensor, _Tensor):
        raise ValueError("expected a parameter that is a tensor")
    return tensor


_STORAGES = {f"torch.{name}Storage": dtype for name, dtype in _TYPES.items()}
_NAMES = {
    **NAMES,
    **dict.fromkeys(_STORAGES),
    "torch._utils._rebuild_tensor": _Tensor,
    "torch._utils._rebuild_tensor_v2": _Tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": Opaque,
    "torch.device": Opaque,
    "argparse.Namespace": Opaque,  # torchvision's training scripts save their flags
    "collections.Counter": Opaque,  # milestones of a learning rate
    **dict.fromkeys(("builtins.set", "__builtin__.set"), Opaque),
}
