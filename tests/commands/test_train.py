"""train.py as a user calls it, with a stub for the detector's step."""

import json
import signal

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


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_status_of_a_stopped_run_is_that_of_its_signal(folder, monkeypatch, number, status):
    before = signal.getsignal(signal.SIGINT)
    stubs.install(monkeypatch, before_step=stubs.signal_at_step(number, 2))
    done = run_command(train_command, "--config", "tiny.py", folder=folder)
    assert (done.status, done.stderr.count("Traceback")) == (status, 0), done.stderr
    assert "stopped after step 2 of 6" in done.stdout
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_the_first_step_a_signal_ends_the_process_at_once(folder, monkeypatch, number):
    """The operating system ends it, so that a compiler in the main thread does not delay it."""
    handlers = []
    original = stubs.loop.compile_steps

    def compile_steps(*arguments):
        handlers.append(signal.getsignal(number))
        original(*arguments)

    monkeypatch.setattr(stubs.loop, "compile_steps", compile_steps)
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}[number]
    before = signal.signal(number, usual)  # a shell lets background processes ignore SIGINT
    try:
        done = run_command(train_command, "--config", "tiny.py", "--config.num_steps=2", folder=folder)
    finally:
        signal.signal(number, before)
    assert done.status == 0 and handlers == [signal.SIG_DFL]


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
