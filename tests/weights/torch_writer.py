"""Files as PyTorch writes them, written without it: both kinds, from numpy arrays."""

import io
import pickle
import struct
import zipfile
from typing import NamedTuple

import numpy as np

_STORAGES = {"float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long"}


class Named(NamedTuple):
    """Something that a pickle gets by its name."""

    module: str
    name: str


class Call(NamedTuple):
    """The result of a function that a pickle gets by its name."""

    function: Named
    arguments: tuple


class Storage(NamedTuple):
    kind: str
    key: str
    data: bytes
    count: int


class Persistent(NamedTuple):
    """Any value in the place of a storage's id."""

    pid: object


class _Pickler(pickle._Pickler):
    """Python's own, because C's imports what it names."""

    def __init__(self, file: io.BytesIO, older: bool) -> None:
        super().__init__(file, protocol=2)
        self.storages: dict[int, Storage] = {}
        self.older = older

    def persistent_id(self, value):
        if isinstance(value, Persistent):
            return value.pid
        if not isinstance(value, Storage):
            return None
        self.storages[value.key] = value
        view = (None,) if self.older else ()
        return ("storage", Named("torch", f"{value.kind}Storage"), value.key, "cpu", value.count, *view)

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Named):
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


def tensor(array, key, *, shape=None, strides=None, offset=0, count=None):
    """A tensor with a storage of its own; by default the whole of it."""
    array = np.asarray(array)
    storage = Storage(_STORAGES[array.dtype.name], key, array.tobytes(), array.size if count is None else count)
    shape = array.shape if shape is None else shape
    if strides is None:
        strides = tuple(side // array.itemsize for side in np.ascontiguousarray(array).reshape(array.shape).strides)
    hooks = Call(Named("collections", "OrderedDict"), ())
    return Call(Named("torch._utils", "_rebuild_tensor_v2"), (storage, offset, shape, strides, False, hooks))


def as_tensors(content):
    """Arrays in nested dictionaries become tensors."""
    counter = iter(range(10**6))

    def convert(value):
        if isinstance(value, dict):
            return {name: convert(inner) for name, inner in value.items()}
        return tensor(value, str(next(counter))) if isinstance(value, np.ndarray) else value

    return convert(content)


def write_archive(path, content):
    """The newer kind."""
    file = io.BytesIO()
    pickler = _Pickler(file, older=False)
    pickler.dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", file.getvalue())
        archive.writestr("archive/byteorder", "little")
        for storage in pickler.storages.values():
            archive.writestr(f"archive/data/{storage.key}", storage.data)


def write_row(path, content, system=None):
    """The older kind."""
    with path.open("wb") as file:
        for head in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True} | (system or {})):
            pickle.dump(head, file, protocol=2)
        pickler = _Pickler(file, older=True)
        pickler.dump(content)
        pickle.dump(sorted(pickler.storages), file, protocol=2)
        for key in sorted(pickler.storages):
            file.write(struct.pack("<q", pickler.storages[key].count) + pickler.storages[key].data)
