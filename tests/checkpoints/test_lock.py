"""One run at a time in a workdir."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from lga_jax.checkpoints import lock as lock_module
from lga_jax.checkpoints.lock import LOCK_FILE, lock_workdir
from lga_jax.files import WriteError
from tests.faults import refused

ROOT = Path(__file__).parents[2]


def test_a_second_run_is_refused_with_the_name_of_the_first(tmp_path):
    workdir = tmp_path / "new" / "run"
    with lock_workdir(workdir):
        with refused(rf"workdir {workdir}", rf"process {os.getpid()} on \S+ since 20\d\d-"), lock_workdir(workdir):
            pytest.fail("not refused")
        assert f"process {os.getpid()}" in (workdir / LOCK_FILE).read_text()  # the refused run left it alone
    with lock_workdir(workdir):
        pass


def test_the_lock_is_released_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), lock_workdir(tmp_path):
        raise ZeroDivisionError
    with lock_workdir(tmp_path):
        pass


def test_a_workdir_that_goes_away_hides_no_error(tmp_path):
    with pytest.raises(ZeroDivisionError):
        _move_and_fail(tmp_path / "run")


def _move_and_fail(workdir):
    with lock_workdir(workdir):
        workdir.rename(workdir.with_name("away"))
        raise ZeroDivisionError


def test_a_killed_process_releases_the_lock(tmp_path):
    code = (
        "import os, signal, sys\nfrom lga_jax.checkpoints.lock import lock_workdir\n"
        "with lock_workdir(sys.argv[1]):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=env, check=False)
    assert killed.returncode == -9
    assert "process" in (tmp_path / LOCK_FILE).read_text()
    with lock_workdir(tmp_path):
        pass


def test_process_0_holds_it_for_all(tmp_path, monkeypatch):
    with lock_workdir(tmp_path):
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        with lock_workdir(tmp_path):
            pass


def test_a_file_system_without_locks_is_said_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    def flock(file, operation):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(lock_module.fcntl, "flock", flock)
    with lock_workdir(tmp_path):
        pass
    assert capsys.readouterr().out.count(LOCK_FILE) == 1


def test_other_faults_of_the_lock_are_one_line(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(lock_module.fcntl, "flock", flock)
    with refused(LOCK_FILE, "Input/output error"), lock_workdir(tmp_path):
        pytest.fail("not refused")


@pytest.mark.parametrize("call", ["ftruncate", "pwrite", "fsync"])
def test_a_lock_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, call):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lock_module.os, call, fail)
    with refused(LOCK_FILE, "No space left", WriteError), lock_workdir(tmp_path):
        pytest.fail("not refused")


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK_FILE).symlink_to(precious)
    with refused(LOCK_FILE), lock_workdir(tmp_path / "run"):
        pytest.fail("not refused")
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("place", ["new", "deeper/new"])
def test_a_refused_start_leaves_nothing(tmp_path, place):
    with pytest.raises(ZeroDivisionError), lock_workdir(tmp_path / place):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def _use_and_fail(workdir):
    if workdir.name == "used":
        (workdir / "metrics.jsonl").touch()
    raise ZeroDivisionError


def test_an_error_leaves_what_was_there_or_was_written(tmp_path):
    with lock_workdir(tmp_path / "locked_before"):
        pass
    (tmp_path / "empty").mkdir()
    for name in ("locked_before", "empty", "used"):
        with pytest.raises(ZeroDivisionError), lock_workdir(tmp_path / name):
            _use_and_fail(tmp_path / name)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["empty", "locked_before", "locked_before/.lock", "used", "used/.lock", "used/metrics.jsonl"]


def test_a_lock_that_another_process_removes_is_not_held(tmp_path, monkeypatch):
    monkeypatch.setattr(lock_module.fcntl, "flock", lambda *_: (tmp_path / LOCK_FILE).unlink())
    with refused(LOCK_FILE, "removed"), lock_workdir(tmp_path):
        pytest.fail("not refused")


@pytest.fixture
def compared(monkeypatch):
    """What this process compares with the others of its run, whose token is "t"."""
    facts = []
    monkeypatch.setattr(lock_module, "joined", lambda: SimpleNamespace(token="t"))
    monkeypatch.setattr(lock_module, "compare", lambda name, own: facts.append(own()))
    return facts


def test_processes_with_one_workdir_find_the_token_of_process_0(tmp_path, monkeypatch, compared):
    with lock_workdir(tmp_path):
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        with lock_workdir(tmp_path):
            first, second = compared
    assert first == second


@pytest.mark.parametrize(
    "text", [None, "", "process 1 on host since then", "process 1 on host since then\nother token"]
)
def test_a_process_with_another_workdir_differs_and_creates_nothing(tmp_path, monkeypatch, compared, text):
    monkeypatch.setattr(lock_module, "_TOKEN_LIMIT", 0.0)
    with lock_workdir(tmp_path / "first"):
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        other = tmp_path / "second"
        if text is not None:
            other.mkdir()
            (other / LOCK_FILE).write_text(text)
        with lock_workdir(other):
            first, second = compared
    assert second["workdir"] == str(other) != first["workdir"]
    assert other.exists() == (text is not None)
