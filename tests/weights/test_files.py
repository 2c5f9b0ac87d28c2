import hashlib
import io
import json
import os
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from huggingface_hub import errors as hub_errors

from lga_jax.weights import files
from lga_jax.weights.files import read_weights
from tests import faults
from tests.weights.torch_writer import Call, Named, as_tensors, tensor, write_archive, write_row

ARRAYS = {
    "conv1.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "count": np.array(3),
}


def write(path, arrays=ARRAYS, **nested):
    """Writes arrays in the format that the name asks for."""
    content = nested or arrays
    match path.suffix:
        case ".npz":
            np.savez(path, **content)
        case ".safetensors":
            safetensors.numpy.save_file({name: np.ascontiguousarray(value) for name, value in content.items()}, path)
        case ".pkl":
            path.write_bytes(pickle.dumps(content))
        case ".pth" | ".pt" | ".bin":
            write_archive(path, as_tensors(content))
    return str(path)


def refused(place, found="", remedy=""):
    """Regular expressions are searched in the fields of the error."""
    with faults.refused(f"^weights {re.escape(str(place))}", found) as caught:
        read_weights(str(place))
    assert re.search(remedy, caught.value.remedy), caught.value.remedy


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pkl", "pth", "pt", "bin"])
def test_every_format_gives_the_same_arrays(tmp_path, suffix):
    weights = read_weights(write(tmp_path / f"w.{suffix}"))
    assert weights.where == str(tmp_path / f"w.{suffix}")
    assert weights.arrays.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(weights.arrays[name], value)
    assert weights.arrays["columns"].dtype == np.float32  # was float64
    assert weights.arrays["count"].dtype == np.int64
    assert (weights.class_names, weights.author, weights.model) == (None, "", None)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_pickles_of_every_protocol_type_and_order(tmp_path, protocol):
    arrays = OrderedDict(
        rows=np.arange(6, dtype=">f4").reshape(2, 3),
        columns=np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        every_other=np.arange(6.0)[::2],
        half=np.arange(3, dtype=np.float16),
        flags=np.array([True, False]),
        nothing=np.zeros((0, 3)),
        scalar=np.float32(2.5),
    )
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps(arrays | {"a name": "text", "number": 3}, protocol))
    read = read_weights(str(path)).arrays
    assert read.keys() == arrays.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(read[name], value)
    assert read["half"].dtype == read["rows"].dtype == np.float32


def test_pickle_of_python_2(tmp_path):
    """Byte strings were its ordinary strings, and numpy's modules had other names."""
    data = np.array([[1.5, -2.0, 1e9]], "<f4").tobytes()
    kind = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"(K\x01K\x01K\x03\x86" + kind + b"\x89U" + struct.pack("B", len(data)) + data + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R" + state
    path = tmp_path / "R-50.pkl"
    path.write_bytes(b"\x80\x02}U\x07conv1_w" + array + b"s.")
    np.testing.assert_array_equal(read_weights(str(path)).arrays["conv1_w"], [[1.5, -2.0, 1e9]])


def test_half_precision_becomes_float32(tmp_path):
    values = np.array([1.0, -2.5, 3.0e4])
    arrays = {"half": values.astype(np.float16), "brain": values.astype(ml_dtypes.bfloat16)}
    read = read_weights(write(tmp_path / "w.safetensors", arrays)).arrays
    for name, value in arrays.items():
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name], value.astype(np.float32))


@pytest.mark.parametrize("write_torch", [write_archive, write_row])
def test_half_precision_of_torch(tmp_path, write_torch):
    write_torch(tmp_path / "w.pth", as_tensors({"w": np.array([1.0, 2.5], ml_dtypes.bfloat16)}))
    array = read_weights(str(tmp_path / "w.pth")).arrays["w"]
    assert array.dtype == np.float32 and array.tolist() == [1.0, 2.5]


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state", "blobs"])
def test_nested_state_dicts_are_unwrapped(tmp_path, key):
    inner = {f"module.{name}": value for name, value in ARRAYS.items()} | {"module.w_momentum": np.ones(3)}
    path = write(tmp_path / "w.pkl", **{key: inner, "__author__": "torchvision", "epoch": 3})
    weights = read_weights(path)
    assert weights.arrays.keys() == ARRAYS.keys()
    assert weights.author == "torchvision"


def test_training_checkpoint_of_torchvisions_scripts(tmp_path):
    content = as_tensors(
        {
            "model": {"module.conv1.weight": np.ones(3, np.float32)},
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
            "args": Call(Named("argparse", "Namespace"), ()),
            "epoch": 3,
        }
    )
    write_archive(tmp_path / "new.pth", content)
    write_row(tmp_path / "legacy.pth", content)
    (tmp_path / "by_torch.pkl").write_bytes((tmp_path / "new.pth").read_bytes())
    for name in ("new.pth", "legacy.pth", "by_torch.pkl"):
        assert read_weights(str(tmp_path / name)).arrays["conv1.weight"].tolist() == [1.0, 1.0, 1.0]


def test_a_dictionary_that_holds_itself_is_refused(tmp_path):
    content = {"w": np.ones(2)}
    content["model"] = content
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content))
    refused(tmp_path / "w.pkl", "contain themselves")


class Runs:
    """Unpickling it calls a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {marker}",), r"(posix|nt)\.system"),
        (eval, ("open('{marker}', 'w')",), r"builtins\.eval"),
        (getattr, (np, "load"), r"builtins\.getattr"),
        (np.loadtxt, ("{marker}",), r"numpy\.loadtxt|numpy\.lib.*loadtxt"),
        (np.memmap, ("{marker}", "u1", "w+", 0, (1,)), r"numpy\.memmap"),
    ],
)
def test_pickles_never_run_code(tmp_path, function, arguments, name):
    marker = tmp_path / "marker"
    arguments = [a.format(marker=marker) if isinstance(a, str) else a for a in arguments]
    if arguments[0] is np:  # a module cannot be pickled, nor need it be
        arguments[0] = "numpy"
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"model": {"w": np.ones(2)}, "hook": Runs(function, *arguments)}))
    refused(path, f"^({name}),", "state dict")
    assert not marker.exists()


def test_torch_files_never_run_code(tmp_path):
    marker = tmp_path / "marker"
    hook = Call(Named("posix", "system"), (f"touch {marker}",))
    write_archive(tmp_path / "w.pth", as_tensors({"w": np.ones(2)}) | {"hook": hook})
    refused(tmp_path / "w.pth", r"^posix\.system,")
    assert not marker.exists()


def test_pickled_arrays_are_not_trusted(tmp_path):
    """numpy's own functions would allocate what a pickle claims, and take its numbers for addresses of objects."""
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"w": np.array([{"a": 1}], dtype=object)}))
    refused(path, "ValueError: .*'O8'")
    reconstruct = np._core.multiarray._reconstruct
    path.write_bytes(pickle.dumps({"w": Runs(reconstruct, np.ndarray, (2**50,), b"b")}))
    refused(path, "^none$")
    sound = pickle.dumps({"w": np.ones((2, 3), np.float32)}, 2)
    path.write_bytes(sound.replace(b"K\x02K\x03\x86", b"K\x02K\x7f\x86"))  # its shape
    refused(path, "unreadable")


def test_pickles_that_claim_more_than_they_have_are_not_believed(tmp_path):
    """The unpickler makes room for as many values, and for as long an array of bytes, as it is told."""
    path = tmp_path / "w.pkl"
    for claim in (b"r\xff\xff\xff\x7f", b"p4000000000\n", b"\x96" + struct.pack("<Q", 2**33), b"\x8b\xff\xff\xff\x7f1"):
        path.write_bytes(b"\x80\x05}" + claim + b".")
        refused(path, r"ValueError: .*(to remember|expected \d+ bytes|not enough data)")


def test_names_that_would_break_a_line(tmp_path):
    (tmp_path / "w.pkl").write_bytes(b"\x80\x04\x8c\x02os\x8c\x07sys\ntem\x93.")
    refused(tmp_path / "w.pkl", r"^os\.sys\\ntem,")
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"a\nb": np.ones(2), "c": np.ones(2)}))
    assert read_weights(str(tmp_path / "w.pkl")).arrays.keys() == {"c"}


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pkl", "pth"])
def test_truncated_and_foreign_files_are_one_line(tmp_path, suffix):
    path = tmp_path / f"w.{suffix}"
    write(path, {"w": np.ones((100, 100), np.float32), "v": np.ones(3)})
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-20], b"", b"no such file", b"PK\x03\x04 cut off", b"<html>" * 99):
        path.write_bytes(content)
        refused(path, "unreadable")


def test_pickled_objects_in_npz_are_never_loaded(tmp_path):
    path = write(tmp_path / "w.npz", {"conv1.weight": np.array([{"a": 1}], dtype=object)})
    refused(path, "unreadable .*pickled objects")


@pytest.mark.parametrize(
    ("content", "found"),
    [([np.ones(2)], "^a list$"), ({"a": "b"}, "^none$")],
)
def test_files_without_arrays(tmp_path, content, found):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content))
    refused(tmp_path / "w.pkl", found)


def test_places_that_are_no_file_of_weights(tmp_path):
    refused(tmp_path / "none.npz", "^none$")
    refused(tmp_path, "^a folder$")
    (tmp_path / "w.onnx").write_bytes(b"")
    refused(tmp_path / "w.onnx", r"^'\.onnx'$")


def test_more_than_memory_holds_is_refused(tmp_path, monkeypatch):
    paths = [write(tmp_path / f"w.{suffix}", {"w": np.zeros(10**5)}) for suffix in ("npz", "safetensors", "pkl")]
    np.savez_compressed(tmp_path / "bomb.npz", w=np.zeros(10**5))
    monkeypatch.setattr(files, "_LIMIT", 2**18)
    for path in [*paths, tmp_path / "bomb.npz"]:
        refused(path, remedy="only the model")


def test_digest_in_the_name_is_checked(tmp_path):
    content = io.BytesIO()
    np.save(content, np.ones(2))
    plain = pickle.dumps({"w": np.ones(2)})
    digits = hashlib.sha256(plain).hexdigest()[:8]
    right, wrong = tmp_path / f"r50-{digits}.pkl", tmp_path / f"r50-{'0' if digits[0] != '0' else '1'}{digits[1:]}.pkl"
    for path in (right, wrong, tmp_path / "model-20240131.pkl", tmp_path / "model-12ab.pkl"):
        path.write_bytes(plain)
    read_weights(str(right))
    refused(wrong, f"^{digits}$")
    read_weights(str(tmp_path / "model-20240131.pkl"))  # a date
    read_weights(str(tmp_path / "model-12ab.pkl"))  # too short to be one


def test_views_in_torch_files_count_as_what_they_become(tmp_path, monkeypatch):
    views = {str(number): tensor(np.zeros(10**3, np.float32), "0") for number in range(100)}
    write_archive(tmp_path / "view.pth", {"model": views})
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(10**6))
    monkeypatch.setattr(files, "_LIMIT", 2**18)
    for name in ("view.pth", "bomb.pth"):
        refused(tmp_path / name, remedy="only the model")


def test_names_in_the_metadata(tmp_path):
    path = tmp_path / "w.safetensors"
    about = {"class_names": ["a", "b"], "category_ids": [3, 7], "model": {"backbone": {"norm_eps": 1e-5}}}
    safetensors.numpy.save_file(ARRAYS, path, {key: json.dumps(value) for key, value in about.items()})
    weights = read_weights(str(path))
    assert (weights.class_names, weights.category_ids, weights.model) == (("a", "b"), (3, 7), about["model"])
    for bad in ("[1]", "a, b", "[]", '{"a": 1}'):
        safetensors.numpy.save_file(ARRAYS, path, {"class_names": bad})
        refused(path, f"^{re.escape(repr(bad))}$")
    for about, found in (
        ({"class_names": ["a", "b", "a"]}, "^'a' several times$"),
        ({"class_names": ["a", "b"], "category_ids": [3, 3]}, "^3 several times$"),
        ({"class_names": ["a", "b"], "category_ids": [3]}, "^1$"),
    ):
        safetensors.numpy.save_file(ARRAYS, path, {key: json.dumps(value) for key, value in about.items()})
        refused(path, found)


def test_files_of_the_hub(tmp_path, monkeypatch):
    asked = []

    def download(repository, file, *, revision):
        asked.append((repository, file, revision))
        return write(tmp_path / "model.safetensors")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    weights = read_weights("hf://timm/resnet50.a1_in1k/model.safetensors")
    assert weights.where == "hf://timm/resnet50.a1_in1k/model.safetensors"
    np.testing.assert_array_equal(weights.arrays["count"], 3)
    read_weights("hf://me/detector@v1.0/weights/model.safetensors")
    assert asked == [
        ("timm/resnet50.a1_in1k", "model.safetensors", None),
        ("me/detector", "weights/model.safetensors", "v1.0"),
    ]


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (hub_errors.GatedRepoError, "^a gated repository$"),
        (hub_errors.RepositoryNotFoundError, "^no repository me/detector"),
        (hub_errors.RevisionNotFoundError, "^no revision v1 of me/detector$"),
        (hub_errors.RemoteEntryNotFoundError, "^no file w.npz in me/detector$"),
        (hub_errors.LocalEntryNotFoundError, "^neither network nor a copy in the cache$"),
        (ConnectionError, "^ConnectionError: no way$"),
    ],
)
def test_what_the_hub_refuses_is_one_line(monkeypatch, error, found):
    def download(*arguments, **settings):
        if issubclass(error, hub_errors.HfHubHTTPError):
            raise error("no way\nat all", response=SimpleNamespace(headers={}, request=None))
        raise error("no way\nat all")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    refused("hf://me/detector@v1/w.npz", found)


@pytest.mark.parametrize("place", ["hf://", "hf://repository/file.npz", "hf://a/b@/w.npz", "hf://a/b"])
def test_malformed_places_of_the_hub(place):
    refused(place, "^another form$")


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("key", ["class_names", "category_ids", "model"])
@pytest.mark.parametrize(
    "value",
    [
        DEEP,
        '{"a": ' * 100_000 + "1" + "}" * 100_000,
        '{"a": {"b": {"c": {"d": {"e": 1}}}}}',
        '{"a": [[1]]}',
        '{"pixel_mean": [{"a": 1}]}',
        "[" + "9" * 5000 + "]",
        "[9223372036854775808]",
        "1",
        "",
    ],
    ids=range(9),
)
def test_metadata_of_another_form_are_refused(tmp_path, key, value):
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file({"w": np.ones(2, np.float32)}, path, {key: value})
    refused(path)


def test_many_classes_are_compared_in_a_moment(tmp_path):
    path = tmp_path / "w.safetensors"
    names = [str(number) for number in range(50_000)]
    about = {"class_names": json.dumps(names), "category_ids": json.dumps([2**61 - 1, *range(1, 50_000)])}
    safetensors.numpy.save_file(ARRAYS, path, about)
    assert read_weights(str(path)).class_names == tuple(names)


def safetensors_with(header, data=bytes(8)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(start, end, shape, kind="F32"):
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "content",
    [
        safetensors_with(DEEP.encode()),
        safetensors_with({"w": entry(0, 8, [2]), "v": entry(0, 8, [2])}),  # the same bytes twice
        safetensors_with({"w": entry(0, 8, [2]), "v": entry(4, 8, [1])}),
        safetensors_with({"w": entry(0, 4, [1])}),  # bytes that no array has
        safetensors_with({"w": entry(0, 2**40, [2**38])}),
        safetensors_with({"w": entry(0, 8, [2**40])}),
        safetensors_with({"w": entry(0, 8, [2**33, 2**33])}),
        safetensors_with({"w": entry(8, 0, [2])}),
        safetensors_with({"w": entry(-8, 0, [2])}),
        safetensors_with({"w": entry(0, 8, [-2])}),
        safetensors_with({"w": entry(0, 8, [2], "O")}),
        safetensors_with(b"{}" + b" " * 10**6 + b"x"),
        struct.pack("<Q", 2**63) + b"{}",
        b"\xff" * 100,
    ],
    ids=range(14),
)
def test_headers_of_safetensors_are_not_believed(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    refused(tmp_path / "w.safetensors", "unreadable")


def test_a_machine_without_memory_says_nothing_about_the_file(tmp_path, monkeypatch):
    def fail(_):
        raise MemoryError

    path = write(tmp_path / "w.npz")
    monkeypatch.setitem(files._READERS, ".npz", fail)
    refused(path, "^too little$", "free memory")


def test_links_are_read_and_never_written(tmp_path):
    (tmp_path / "link.npz").symlink_to(write(tmp_path / "w.npz"))
    assert read_weights(str(tmp_path / "link.npz")).arrays.keys() == ARRAYS.keys()
    (tmp_path / "loop.npz").symlink_to("loop.npz")
    refused(tmp_path / "loop.npz", "^none$")
    os.mkfifo(tmp_path / "pipe.npz")
    refused(tmp_path / "pipe.npz", "^none$")
