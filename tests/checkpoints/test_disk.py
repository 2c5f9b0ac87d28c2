"""A disk that takes no more while a checkpoint is written."""

import errno
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lga_jax.checkpoints.disk import (
    close_whatever_is_raised,
    disk_error,
    folder_identity,
    hide_tracebacks_of_orbax,
    remove_unfinished,
    writing_arrays,
)
from lga_jax.checkpoints.write import Checkpoints
from lga_jax.files import WriteError
from tests.checkpoints.saving import manifest_of, save_steps, state_of
from tests.faults import refused

ROOT = Path(__file__).parents[2]
FULL = OSError(errno.ENOSPC, "No space left on device")
TENSORSTORE = (
    'OUT_OF_RANGE: Error opening "zarr" driver: Failed to write 32 bytes to file 17: File too large [os_error_code]'
)


def _chained(error, by):
    try:
        raise RuntimeError("a thread failed") from (error if by == "cause" else None)
    except RuntimeError as outer:
        if by == "context":
            outer.__context__ = error
        return outer


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (FULL, errno.ENOSPC),
        (_chained(FULL, "cause"), errno.ENOSPC),
        (_chained(FULL, "context"), errno.ENOSPC),
        (ValueError('NOT_FOUND: Error opening "zarr" driver: Error reading Byte range [0, 208)'), errno.ENOENT),
        (ExceptionGroup("threads", [ValueError("other"), FULL]), errno.ENOSPC),
        (ValueError(TENSORSTORE), errno.EFBIG),
        (RuntimeError("INTERNAL: Read-only file system"), errno.EROFS),
    ],
)
def test_the_disk_is_found_behind_what_libraries_raise(error, number):
    assert disk_error(error).errno == number
    with refused("^here$", os.strerror(number), WriteError), writing_arrays("here"):
        raise error


@pytest.mark.parametrize(
    "error", [KeyError("a"), ValueError("INVALID_ARGUMENT: shapes"), OSError(errno.EAGAIN, "again")]
)
def test_other_exceptions_stay_what_they_are(error):
    assert disk_error(error) is None
    with pytest.raises(type(error)) as caught, writing_arrays("here"):
        raise error
    assert caught.value is error


class _Manager:
    def __init__(self, failures):
        self.failures, self.calls = failures, 0

    def close(self):
        self.calls += 1
        if self.calls <= self.failures:
            raise OSError(self.calls, "")


@pytest.mark.parametrize(("failures", "calls"), [(0, 1), (1, 2), (2, 3), (9, 4)])
def test_a_manager_is_closed_after_the_exceptions_of_its_threads(failures, calls):
    manager = _Manager(failures)
    if failures:
        with pytest.raises(OSError, match=r"Errno 1\]"):
            close_whatever_is_raised(manager.close)
    else:
        close_whatever_is_raised(manager.close)
    assert manager.calls == calls


def test_only_tracebacks_of_orbax_and_warnings_of_its_threads_are_left_out(caplog, monkeypatch):
    shown_unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", shown_unraisable.append)
    for _ in range(2):
        hide_tracebacks_of_orbax()
    for place in ("/site-packages/orbax/checkpoint/futures.py", "/site-packages/other/futures.py"):
        for exc_info in ((OSError, FULL, None), None):
            record = logging.LogRecord("absl", logging.ERROR, place, 1, place, (), exc_info)
            logging.getLogger("absl").handle(record)
    logging.getLogger("absl").warning("Metadata file does not exist: run/checkpoints/4/_CHECKPOINT_METADATA")
    for other_thread in (True, False):
        record = logging.LogRecord(
            "absl", logging.WARNING, "/site-packages/orbax/checkpoint/m.py", 1, "moved", (), None
        )
        record.thread += other_thread
        logging.getLogger("absl").handle(record)
    shown = [(record.pathname.split("/")[2], record.exc_info is not None) for record in caplog.records]
    assert shown == [("orbax", False), ("other", True), ("other", False), ("orbax", False)]
    for error in (RuntimeError("Event loop is closed"), RuntimeError("other")):
        sys.unraisablehook(SimpleNamespace(exc_value=error))
    assert [str(entry.exc_value) for entry in shown_unraisable] == ["other"]


def test_a_moved_folder_keeps_its_identity_and_a_new_one_has_another(tmp_path):
    (tmp_path / "a").mkdir()
    identity = folder_identity(str(tmp_path / "a"))
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").mkdir()
    assert folder_identity(str(tmp_path / "b")) == identity != folder_identity(str(tmp_path / "a"))
    assert folder_identity(str(tmp_path / "c")) is None


@pytest.mark.parametrize("again", [False, True], ids=["gone", "another in its place"])
def test_nothing_is_written_where_the_folder_was(tmp_path, again):
    save_steps(tmp_path / "run", [0.1])
    state = state_of(2.0)
    with Checkpoints(str(tmp_path / "run")) as checkpoints:
        (tmp_path / "run").rename(tmp_path / "moved")
        if again:
            (tmp_path / "run" / "checkpoints").mkdir(parents=True)
        for write in (lambda: checkpoints.save(2, state, {}, manifest_of(state)), lambda: checkpoints.score(1, 0.5)):
            with refused("run/checkpoints$", "another" if again else "none", WriteError):
                write()
    assert (tmp_path / "run").exists() == again and list((tmp_path / "run").rglob("*/*")) == []


@pytest.mark.parametrize("others", [False, True], ids=["nothing else", "another run"])
def test_what_a_thread_still_wrote_at_the_old_place_is_not_in_the_way(tmp_path, monkeypatch, others):
    save_steps(tmp_path / "run", [0.1])
    late = tmp_path / "run" / "checkpoints" / "2.orbax-checkpoint-tmp" / "variables"
    waits = []

    def write_late(seconds):
        waits.append(seconds)
        if len(waits) < 3:
            late.mkdir(parents=True, exist_ok=True)
            (late / "manifest.ocdbt").write_bytes(b"late")

    with Checkpoints(str(tmp_path / "run")):
        (tmp_path / "run").rename(tmp_path / "moved")
        write_late(0)
        if others:
            (tmp_path / "run" / ".lock").write_text("another run")
        monkeypatch.setattr(time, "sleep", write_late)
    assert (tmp_path / "run").exists() == late.exists() == others


def test_whatever_is_raised_because_the_folder_is_gone_is_one_error(tmp_path, monkeypatch):
    """Orbax has words of its own for it, which depend on the moment."""
    save_steps(tmp_path / "run", [0.1])
    state = state_of(2.0)
    with Checkpoints(str(tmp_path / "run")) as checkpoints:

        def lose(*_, **__):
            (tmp_path / "run").rename(tmp_path / "moved")
            raise ValueError("Checkpoint directory does not exist: somewhere")

        monkeypatch.setattr(checkpoints._manager, "save", lose)
        with refused("run/checkpoints$", "none", WriteError) as caught:
            checkpoints.save(2, state, {}, manifest_of(state))
        assert isinstance(caught.value.__context__, ValueError)
        monkeypatch.setattr(checkpoints._manager, "save", lambda *_, **__: 1 / 0)
        (tmp_path / "moved").rename(tmp_path / "run")
        with pytest.raises(ZeroDivisionError):  # the folder is in its place: another error stays
            checkpoints.save(2, state, {}, manifest_of(state))


@pytest.mark.parametrize("name", ["2.orbax-checkpoint-tmp", "variables.orbax-checkpoint-tmp"])
def test_a_folder_that_the_disk_refuses_ends_the_save_at_once(tmp_path, monkeypatch, name):
    """And no thread of Orbax waits for it, which it would do for 300 s."""
    save_steps(tmp_path, [0.1])
    state, create, refused_folders = state_of(2.0), os.mkdir, []

    def mkdir(path, *arguments, **options):
        if str(path).rstrip("/").endswith(name):
            refused_folders.append(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        create(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", mkdir)
        with Checkpoints(str(tmp_path)) as checkpoints, refused("checkpoints$", os.strerror(errno.EIO), WriteError):
            checkpoints.save(2, state, {}, manifest_of(state))
    assert refused_folders
    with Checkpoints(str(tmp_path)) as checkpoints:
        assert checkpoints.restore(state, manifest_of(state)).step == 1


def test_what_a_failed_save_left_is_removed(tmp_path):
    (tmp_path / "2.orbax-checkpoint-tmp" / "variables" / "d").mkdir(parents=True)
    (tmp_path / "1").mkdir()
    remove_unfinished(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


_SCRIPT = """
import pathlib, resource, sys
import jax
jax.config.update("jax_num_cpu_devices", 1)
from lga_jax.checkpoints.read import restore_params
from lga_jax.errors import UserError
from tests.checkpoints.saving import Checkpoints, manifest_of, save_steps, state_of

workdir, state = sys.argv[1], state_of(2.0)
save_steps(pathlib.Path(workdir), [0.1])
try:
    with Checkpoints(workdir) as checkpoints:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
        checkpoints.save(2, state, {"step": 2}, manifest_of(state))
except UserError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with Checkpoints(workdir) as checkpoints:
    print(checkpoints.restore(state, manifest_of(state)).step)
    checkpoints.save(2, state, {"step": 2}, manifest_of(state))
print(restore_params(workdir, "latest").step)
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [50, 250])
def test_a_failed_save_is_one_line_and_older_steps_can_be_restored_in_the_same_process(tmp_path, limit):
    """The operating system refuses larger files than the limit: in Orbax's own files, and in TensorStore's."""
    command = [sys.executable, "-c", _SCRIPT, str(tmp_path), str(limit)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line, *rest = done.stdout.splitlines()
    assert line.startswith(f"{tmp_path}/checkpoints: ") and os.strerror(errno.EFBIG) in line
    assert rest == ["1", "2"]
    assert "Traceback" not in done.stderr
