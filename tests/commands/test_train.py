"""train.py as a user calls it, with a stub for the detector's step."""

import json

import pytest

from lga_jax.commands import train as train_command
from tests.commands.calling import run_command
from tests.training import stubs

RECIPE = """
from tests.training.stubs import stub_config

def get_config():
    return stub_config()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With tiny.py, a recipe."""
    (tmp_path / "tiny.py").write_text(RECIPE)
    stubs.install(monkeypatch)
    return tmp_path


def test_a_run_lies_under_the_recipes_name_and_goes_on_where_it_stopped(folder):
    done = run_command(train_command, "--config", "tiny.py", "--config.num_steps=2", folder=folder)
    assert done.status == 0, done.stderr
    assert "done: 2 steps in runs/tiny" in done.stdout
    done = run_command(train_command, "--config", "tiny.py", "--config.num_steps=4", folder=folder)
    assert done.status == 0, done.stderr
    assert "step 2 of 4" in done.stdout and "done: 4 steps" in done.stdout
    lines = [json.loads(line) for line in (folder / "runs" / "tiny" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "total" in line] == [2, 4]


@pytest.mark.parametrize(
    ("args", "subject"),
    [
        (("--num_processes", "2"), "--coordinator_address, --num_processes, --process_id"),
        (("--config.optim.lr=-1",), "optim.lr"),
        (("--config.num_stps=1",), "num_stps"),
    ],
)
def test_faults_are_one_line_before_anything_is_written(folder, args, subject):
    done = run_command(train_command, "--config", "tiny.py", *args, folder=folder)
    assert (done.status, done.stdout) == (2, "")
    assert subject in done.stderr and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert not (folder / "runs").exists()
