import argparse
import os
import pickle
import zipfile
from collections import Counter

import ml_dtypes
import numpy as np
import pytest

from lga_jax.archives import open_archive
from lga_jax.errors import UserError
from lga_jax.weights.torch_file import read_torch_archive, read_torch_row
from tests.weights.torch_writer import Call, Named, Persistent, as_tensors, tensor, write_archive, write_row


def read_torch_file(path):
    if not zipfile.is_zipfile(path):
        return read_torch_row(path)
    with open_archive(path) as archive:
        return read_torch_archive(archive)


WRITERS = pytest.mark.parametrize("write", [write_archive, write_row])


@WRITERS
def test_tensors_of_every_type(tmp_path, write):
    arrays = {
        kind: np.arange(6).reshape(2, 3).astype(kind)
        for kind in ("float32", "float64", "float16", ml_dtypes.bfloat16, "int64")
    }
    arrays |= {"scalar": np.array(2.5), "empty": np.zeros((0, 3), np.float32)}
    path = tmp_path / "w.pth"
    write(path, as_tensors({"model": {str(name): array for name, array in arrays.items()}, "epoch": 3}))
    content = read_torch_file(path)
    assert content["epoch"] == 3
    for name, array in arrays.items():
        found = content["model"][str(name)].array
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)


@WRITERS
def test_views_of_one_storage(tmp_path, write):
    numbers = np.arange(12, dtype=np.float32)
    content = {
        "transposed": tensor(numbers, "0", shape=(4, 3), strides=(1, 4)),
        "second_half": tensor(numbers, "0", shape=(6,), strides=(1,), offset=6),
        "parameter": Call(Named("torch._utils", "_rebuild_parameter"), (tensor(numbers, "0"), True, {})),
    }
    write(tmp_path / "w.pth", content)
    found = read_torch_file(tmp_path / "w.pth")
    np.testing.assert_array_equal(found["transposed"].array, numbers.reshape(3, 4).T)
    np.testing.assert_array_equal(found["second_half"].array, numbers[6:])
    np.testing.assert_array_equal(found["parameter"].array, numbers)


@WRITERS
@pytest.mark.parametrize(
    ("view", "message"),
    [
        (dict(shape=(13,), strides=(1,)), "a view inside 12 numbers"),
        (dict(shape=(2, 2), strides=(11, 1)), "a view inside 12 numbers"),
        (dict(shape=(2,), strides=(-1,)), "natural numbers"),
        (dict(shape=(2,), strides=(1,), offset=-1), "natural numbers"),
        (dict(shape=(13,), strides=(0,)), "a view inside 12 numbers"),
        (dict(shape=(2**40, 2**40), strides=(0, 0)), "a view inside 12 numbers"),
        (dict(shape=(2,), strides=(1,), count=2**40), "a storage of 4398046511104 bytes, found 48"),
    ],
)
def test_views_outside_their_storage_are_refused(tmp_path, write, view, message):
    write(tmp_path / "w.pth", {"w": tensor(np.arange(12, dtype=np.float32), "0", **view)})
    with pytest.raises(ValueError, match=message):
        read_torch_file(tmp_path / "w.pth")


@WRITERS
@pytest.mark.parametrize(
    "module_and_name", [("posix", "system"), ("torch", "load"), ("torch.jit", "_load"), ("builtins", "eval")]
)
def test_what_could_run_code_is_refused(tmp_path, write, module_and_name):
    marker = tmp_path / "marker"
    hook = Call(Named(*module_and_name), (f"touch {marker}",))
    write(tmp_path / "w.pth", {"w": tensor(np.ones(2), "0"), "hook": hook})
    with pytest.raises(UserError) as caught:
        read_torch_file(tmp_path / "w.pth")
    assert ".".join(module_and_name) in caught.value.found
    assert not marker.exists()


@WRITERS
@pytest.mark.parametrize(
    "pid",
    [
        "storage",
        ("storage", Named("torch", "FloatStorage"), "0", "cpu"),
        ("storage", Named("torch", "FloatStorage"), 0, "cpu", 1),
        ("storage", Named("torch", "FloatStorage"), "0", "cpu", -1),
        ("storage", Named("torch", "FloatStorage"), "0", "cpu", 1, ("a", "view")),
        ("storage", Named("torch", "Size"), "0", "cpu", 1),
        ("storage", "FloatStorage", "0", "cpu", 1),
        ("module", Named("torch", "FloatStorage"), "0", "cpu", 1),
    ],
)
def test_persistent_ids_of_another_form_are_refused(tmp_path, write, pid):
    write(tmp_path / "w.pth", {"w": Persistent(pid)})
    with pytest.raises(ValueError, match=r"a storage of numbers|natural numbers"):
        read_torch_file(tmp_path / "w.pth")


@WRITERS
@pytest.mark.parametrize("arguments", [(), (1, 0, (1,), (1,)), ("w", 0, (1,), (1,))])
def test_tensors_without_a_storage_are_refused(tmp_path, write, arguments):
    write(tmp_path / "w.pth", {"w": Call(Named("torch._utils", "_rebuild_tensor_v2"), arguments)})
    with pytest.raises((ValueError, TypeError)):
        read_torch_file(tmp_path / "w.pth")


def test_parameters_without_a_tensor_are_refused(tmp_path):
    write_archive(tmp_path / "w.pth", {"w": Call(Named("torch._utils", "_rebuild_parameter"), ({}, True))})
    with pytest.raises(ValueError, match="a parameter"):
        read_torch_file(tmp_path / "w.pth")


def test_an_older_file_whose_heads_are_no_numbers(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C) + pickle.dumps(1001) + pickle.dumps([]))
    with pytest.raises((ValueError, TypeError)):
        read_torch_file(path)


def test_a_name_is_no_storage(tmp_path):
    """What stands in the place of a storage must be one of those types."""
    path = tmp_path / "w.pth"
    write_archive(path, {"w": tensor(np.ones(2, np.float32), "0")})
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"FloatStorage", b"FloatStoragE"))
    with pytest.raises(Exception, match="FloatStoragE|CRC"):
        read_torch_file(path)


def test_other_machines_and_other_files(tmp_path):
    path = tmp_path / "w.pth"
    write_row(path, {}, system={"little_endian": False})
    with pytest.raises(ValueError, match="little-endian"):
        read_torch_file(path)
    path.write_bytes(b"\x80\x02K\x01.\x80\x02K\x02.\x80\x02}.")
    with pytest.raises(ValueError, match="beginning of a file of PyTorch"):
        read_torch_file(path)


def test_storages_that_no_tensor_names(tmp_path):
    path = tmp_path / "w.pth"
    write_row(path, {"w": tensor(np.ones(2), "0")})
    whole = path.read_bytes()
    assert whole.count(b"X\x01\x00\x00\x000") == 2  # the tensor's key, and the list of keys
    path.write_bytes(whole[::-1].replace(b"X\x01\x00\x00\x000"[::-1], b"X\x01\x00\x00\x001"[::-1], 1)[::-1])
    with pytest.raises(ValueError, match="the 1 storages"):
        read_torch_file(path)


def test_what_pytorch_itself_writes(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch, which writes .pth files")
    weight = torch.arange(6.0).reshape(2, 3)
    content = {
        "model": {"w": weight, "transposed": weight.T, "half": weight.bfloat16(), "count": torch.tensor(3)},
        "parameter": torch.nn.Parameter(weight[:, 1:]),
        "module": torch.nn.Linear(3, 2).state_dict(),
        "args": argparse.Namespace(lr=0.02, device=torch.device("cpu"), shape=torch.Size((1, 2))),
        "schedule": {"milestones": Counter([16, 22]), "run": os.name, "seen": {1, 2}},
    }
    for older in (False, True):
        path = tmp_path / f"{older}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=not older)
        found = read_torch_file(path)
        np.testing.assert_array_equal(found["model"]["transposed"].array, weight.T)
        np.testing.assert_array_equal(found["model"]["half"].array.astype(np.float32), weight)
        np.testing.assert_array_equal(found["parameter"].array, weight[:, 1:])
        assert found["model"]["count"].array == 3
        np.testing.assert_array_equal(found["module"]["weight"].array, content["module"]["weight"])
