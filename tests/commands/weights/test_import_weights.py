"""`lga_jax import_weights` as a user calls it; tests/training/test_import_detector.py has what is imported."""

import json

from lga_jax.commands.weights import import_weights
from tests.commands.calling import run_command


def test_a_run_becomes_step_0_of_another_with_the_same_weights(tiny_run, tmp_path):
    args = ("--config", "tiny.py", "--weights", "runs/tiny", "--workdir", tmp_path / "run")
    done = run_command(import_weights, *args, folder=tiny_run)
    assert done.status == 0, done.stderr
    assert "8 classes" in done.stdout and str(tmp_path / "run") in done.stdout
    manifest = json.loads((tmp_path / "run" / "checkpoints" / "0" / "manifest" / "metadata").read_text())
    assert manifest["step"] == 0


def test_another_model_is_refused_in_one_line(tiny_run, tmp_path):
    args = ("--config", "tiny.py", "--config.model.fpn.channels=24", "--weights", "runs/tiny")
    done = run_command(import_weights, *args, "--workdir", tmp_path / "run", folder=tiny_run)
    assert done.status == 2 and done.stderr.count("\n") == 1
    assert not (tmp_path / "run" / "checkpoints" / "0").exists()
