"""Starts commands of the project as processes, watches them and ends them.

Importing jax and the project takes longer than a run of the smallest model, so most processes are forks of this one,
which has imported everything and has not initialised jax. A fork then does what `python train.py` does. The other
processes are started as usual: their imports belong to the trial.
"""

import atexit
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_MODULES = (
    *("jax", "orbax.checkpoint", "lga_jax.commands.__main__", "lga_jax.training.run", "lga_jax.inference.predictor"),
    *("lga_jax.report.evaluation_page", "lga_jax.report.tables", "lga_jax.evaluation.evaluate"),
    *("lga_jax.checkpoints.export_torchvision", "lga_jax.inference.folder_job", "tensorboardX", "matplotlib.pyplot"),
    *("pycocotools.cocoeval", "lga_jax.data.doctor.examine"),
)
_EVERY = 0.002  # seconds between two looks at a process


def import_everything() -> None:
    """Imports what commands import, so that forks need not. Nothing here may make an array of jax."""
    for name in _MODULES:
        importlib.import_module(name)
    from jax._src import xla_bridge

    assert not xla_bridge._backends  # a fork of a process with jax's threads would wait for ever


class Process:
    """A running command; its output goes to `log`."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid, self.log = pid, log
        self._status: int | None = None

    def ended(self) -> bool:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status is not None

    @property
    def status(self) -> int:
        """The exit status as a shell reports it: 128 + n after signal n."""
        return 128 - self._status if self._status < 0 else self._status

    def wait(self, seconds: float = 3600.0) -> int:
        """The status. A process that has not ended by then is killed: TimeoutError."""
        end = time.monotonic() + seconds
        while not self.ended():
            if time.monotonic() > end:
                self.send(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise TimeoutError(f"not ended after {seconds:.0f} s: {self.said()[-300:]}")
            time.sleep(10 * _EVERY)
        return self.status

    def send(self, number: int) -> None:
        if not self.ended():
            os.kill(self.pid, number)

    def said(self) -> str:
        return self.log.read_text(errors="replace")


def start(
    command: Sequence[str],
    folder: Path,
    log: Path,
    *,
    fresh: bool = False,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], Any] = lambda: None,
) -> Process:
    """Starts `lga_jax COMMAND`. fresh: a new interpreter. before: called in the process before the command."""
    if fresh:
        return _fork(lambda: _become_script(command, environment or {}, before), folder, log)
    return _fork(lambda: _run_command(command, environment or {}, before), folder, log)


def call(function: Callable[[], Any], folder: Path, log: Path) -> Process:
    """Calls a function in a fork."""
    return _fork(function, folder, log)


def _fork(function: Callable[[], Any], folder: Path, log: Path) -> Process:
    sys.stdout.flush()
    sys.stderr.flush()
    log.write_bytes(b"")
    pid = os.fork()
    if pid:
        return Process(pid, log)
    try:
        _enter(folder, log)
        os._exit(_outcome(function))
    finally:
        os._exit(70)


def _enter(folder: Path, log: Path) -> None:
    """A shell gives background processes an ignored SIGINT: every process here has the usual handlers."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))


def _outcome(function: Callable[[], Any]) -> int:
    """What the end of the interpreter does: exception or status, threads, atexit."""
    try:
        function()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _become_script(command: Sequence[str], environment: Mapping[str, str], before: Callable[[], Any]) -> None:
    before()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the new interpreter installs its own
    script = [sys.executable, "-m", "lga_jax.commands"]
    if (ROOT / f"{command[0]}.py").is_file():
        script = [sys.executable, str(ROOT / f"{command[0]}.py")]
        command = command[1:]
    os.execve(sys.executable, [*script, *command], {**os.environ, "PYTHONPATH": str(ROOT), **environment})


def _run_command(command: Sequence[str], environment: Mapping[str, str], before: Callable[[], Any]) -> None:
    from lga_jax.commands.__main__ import main

    os.environ.update(environment)
    before()
    main(list(command))
