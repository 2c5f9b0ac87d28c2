"""The arguments of an export."""

import errno
import os
import zipfile

import numpy as np
import pytest

from lga_jax.errors import UserError
from lga_jax.exporting import export as export_module
from lga_jax.exporting.export import export
from lga_jax.files import WriteError
from tests.faults import fail_writing, refused


@pytest.fixture
def run(tiny_run):
    return tiny_run / "runs" / "tiny"


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        (dict(format="torchscript"), "format"),
        (dict(size=(0, 64)), "size"),
        (dict(size=(64, 5000)), "size"),
        (dict(score_threshold=2.0), "score_threshold"),
        (dict(score_threshold=float("nan")), "score_threshold"),
        (dict(dtype="int8", format="onnx"), "dtype"),
        (dict(dtype="float16"), "dtype"),
        (dict(step=8), "workdir"),
        (dict(workdir="none"), "workdir"),
        (dict(output="folder/none/x.stablehlo"), "--output"),
        (dict(output="."), "--output"),
    ],
)
def test_a_faulty_argument_is_a_users_error_and_no_file_is_left(run, tmp_path, change, subject):
    arguments = dict(workdir=run, output="x.stablehlo", format="stablehlo") | change
    arguments["output"] = tmp_path / arguments["output"]
    with pytest.raises(UserError) as raised:
        export(**arguments)
    assert raised.value.subject.startswith(subject)
    assert os.listdir(tmp_path) == []


def test_an_existing_file_is_not_overwritten(run, tmp_path):
    path = tmp_path / "x.stablehlo"
    path.write_text("mine")
    with pytest.raises(UserError) as raised:
        export(run, path)
    assert raised.value.subject == f"--output {path}" and path.read_text() == "mine"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_takes_no_more_is_one_error_and_no_file_is_left(run, tmp_path, monkeypatch, number):
    monkeypatch.setattr(export_module, "stablehlo_file", lambda *_: b"a program")
    with monkeypatch.context() as patch:
        fail_writing(patch, "x.stablehlo", number)
        with refused(f"{tmp_path / 'x.stablehlo'}$", os.strerror(number), WriteError):
            export(run, tmp_path / "x.stablehlo")
    assert os.listdir(tmp_path) == []


def test_parameters_are_those_of_the_checkpoint(tiny_exported, tiny_predictor):
    with zipfile.ZipFile(tiny_exported) as archive, archive.open("parameters.npz") as file:
        arrays = np.load(file)
        kernel = arrays["params/backbone/conv1/kernel"]
    np.testing.assert_array_equal(kernel, tiny_predictor._variables["params"]["backbone"]["conv1"]["kernel"])
