"""Files that PyTorch writes (.pth, .pt, .bin), read without PyTorch and without trusting them.

Both kinds hold a pickle that names storages (flat arrays of one type) and the views of them that are the tensors. The
newer kind is a zip archive with a member for each storage; the older one is a row of pickles with the storages behind.
"""

import io
import pickletools
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from lga_jax.weights.array_pickle import ArrayUnpickler, PickledArray, check_claims

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


def read_torch_file(path: Path) -> Any:
    """What was saved, with a PickledArray in the place of every tensor.

    Raises UserError for a file that names anything but tensors and what stands beside them in checkpoints, ValueError
    and what pickle and zipfile raise for a damaged one.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive)
    with path.open("rb") as file:
        return _read_row(file, path.stat().st_size)


def _read_archive(archive: zipfile.ZipFile) -> Any:
    (member,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    folder = member.removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist():
        _check_order(archive.read(f"{folder}byteorder") == b"little")
    content, storages = _unpickle(archive.read(member))
    for key, storage in storages.items():
        storage.fill(archive.read(f"{folder}data/{key}"))
    return content


def _read_row(file: io.BufferedIOBase, size: int) -> Any:
    magic, protocol, system = (_unpickle(_next_pickle(file))[0] for _ in range(3))
    if (magic, protocol) != (_MAGIC, _PROTOCOL):
        raise ValueError("expected the beginning of a file of PyTorch")
    _check_order(system["little_endian"])
    content, storages = _unpickle(_next_pickle(file))
    keys, _ = _unpickle(_next_pickle(file))
    if sorted(keys) != sorted(storages):
        raise ValueError(f"expected the {len(storages)} storages that its tensors are in, found {len(keys)} others")
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        if count != storages[key].count:
            raise ValueError(f"expected a storage of {storages[key].count} numbers, found {count}")
        storages[key].fill(file.read(min(storages[key].num_bytes, size)))
    return content


def _check_order(is_little_endian: bool) -> None:
    if not is_little_endian:
        raise ValueError("expected a file that was written on a little-endian machine")


def _next_pickle(file: io.BufferedIOBase) -> bytes:
    start = file.tell()
    for _ in pickletools.genops(file):
        pass
    end = file.tell()
    file.seek(start)
    return file.read(end - start)


def _unpickle(data: bytes) -> tuple[Any, dict[str, "_Storage"]]:
    check_claims(data)
    unpickler = _TensorUnpickler(io.BytesIO(data), encoding="latin1")
    return unpickler.load(), unpickler.storages


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


class _Tensor(PickledArray):
    """Stands for a tensor: a view of a storage, in units of its numbers."""

    def __init__(self, storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: object) -> None:
        last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
        if offset < 0 or min((*shape, *strides), default=0) < 0 or (0 not in shape and last >= storage.count):
            raise ValueError(f"expected a view inside {storage.count} numbers, found {shape} from {offset} on")
        self.offset, self.shape, self.strides = offset, shape, strides
        storage.tensors.append(self)

    def view(self, numbers: np.ndarray) -> np.ndarray:
        if 0 in self.shape:
            return np.zeros(self.shape, numbers.dtype)
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides, writeable=False)


class _Other:
    """Stands for what checkpoints hold besides tensors, such as a script's flags."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _TensorUnpickler(ArrayUnpickler):
    """Knows PyTorch's tensors too."""

    allowed: Mapping[str, Any] = {
        **ArrayUnpickler.allowed,
        **{f"torch.{name}Storage": name for name in _TYPES},
        "torch._utils._rebuild_tensor": _Tensor,
        "torch._utils._rebuild_tensor_v2": _Tensor,
        "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
        "torch.Size": _Other,
        "torch.device": _Other,
        "argparse.Namespace": _Other,  # torchvision's training scripts save their flags
        "collections.Counter": _Other,  # milestones of a learning rate
    }

    def __init__(self, file: io.BufferedIOBase, **settings: Any) -> None:
        super().__init__(file, **settings)
        self.storages: dict[str, _Storage] = {}

    def persistent_load(self, pid: tuple) -> _Storage:
        kind, name, key, _, count, *view = pid
        if kind != "storage" or name not in _TYPES or any(view):
            raise ValueError(f"expected a storage of numbers, found {str(pid)[:60]}")
        dtype = np.dtype(_TYPES[name])
        storage = self.storages.setdefault(key, _Storage(dtype, count))
        if (storage.dtype, storage.count) != (dtype, count):
            raise ValueError(f"expected one type and size for storage {str(key)[:20]}, found two")
        return storage
