"""`lga_jax export_weights` as a user calls it; tests/checkpoints/test_export_torchvision.py has what is written."""

from lga_jax.commands.weights import export_weights
from tests.commands.calling import run_command


def test_a_model_that_torchvision_cannot_compute_is_refused_and_nothing_is_written(tiny_run, tmp_path):
    output = tmp_path / "detector.safetensors"
    args = ("--format", "torchvision", "--workdir", tiny_run / "runs" / "tiny", "--output", output)
    done = run_command(export_weights, *args)
    assert (done.status, done.stdout, output.exists()) == (2, "", False)
    assert "attention" in done.stderr and done.stderr.count("\n") == 1


def test_formats_are_named(tiny_run, tmp_path):
    args = ("--format", "onnx", "--workdir", tiny_run / "runs" / "tiny", "--output", tmp_path / "detector.onnx")
    done = run_command(export_weights, *args)
    assert done.status == 2 and "torchvision" in done.stderr


def test_a_missing_run_is_one_line(tmp_path):
    args = ("--format", "torchvision", "--workdir", tmp_path / "none", "--output", tmp_path / "detector.safetensors")
    done = run_command(export_weights, *args)
    assert done.status == 2 and str(tmp_path / "none") in done.stderr and done.stderr.count("\n") == 1
