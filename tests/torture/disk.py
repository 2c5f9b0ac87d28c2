"""Disks that become full or fail, and workdirs that are deleted, moved or in use, at random moments."""

import contextlib
import errno
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.torture.journal import Result
from tests.torture.lives import (
    Fault,
    Life,
    assert_same_end,
    expect_no_traceback,
    last_line,
    undisturbed,
    without_report,
)
from tests.torture.moments import PHASES_OF_STUBS, draw, wait_for
from tests.torture.outputs import COMMANDS, Outputs
from tests.torture.processes import Process

_ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS")
_KINDS = ("full", "full of files", *_ERRORS, "limit", "deleted", "moved", "locked", *(f"{e} report" for e in _ERRORS))
_KINDS = (*_KINDS, *(f"{e} {command}" for e in ("ENOSPC", "EIO") for command in COMMANDS))
_SLOW = "Waiting for previous save to complete took"  # a warning of Orbax on a busy machine
_NOISE = re.compile(r"^(ERROR|WARNING|[EW]\d{4}|Traceback|Exception|  File )", re.MULTILINE)
_WITHIN = 120.0  # seconds from the start to the end; the machine may be busy
_LARGE = "64m"
_PAGE = 4096  # bytes


class Disk:
    """Kinds in turn. Without a C compiler or the right to mount, the kinds that need it are left out."""

    def __init__(self, scratch: Path, seed: int) -> None:
        self._scratch, self._seed = scratch, seed
        self._finished, self._of_detector = undisturbed(scratch)
        self._stub, self._of_stub = undisturbed(scratch, stub=True)
        self._pages, self._files = _size(self._stub.workdir)
        preloaded = "failing_disk" in os.environ.get("LD_PRELOAD", "")
        mounts = _can_mount(scratch)
        self._kinds = [
            kind for kind in _KINDS if (preloaded or not kind.startswith(_ERRORS)) and (mounts or "full" not in kind)
        ]
        self._calls = _count_calls(self._finished, scratch) if preloaded else {}
        self._outputs = Outputs(self._finished, scratch) if preloaded else None

    def trial(self, number: int) -> Result:
        """A process meets the fault; then the same command to the end."""
        rng = np.random.default_rng([self._seed, number])
        kind = self._kinds[number % len(self._kinds)]
        folder = self._scratch / f"disk_{number}"
        subprocess.run(["umount", "--lazy", folder / "run"], check=False, capture_output=True)  # of an ended harness
        shutil.rmtree(folder, ignore_errors=True)
        try:
            found = self._meet(kind, folder, rng)
        except (Fault, TimeoutError) as fault:
            return Result(number, kind, f"{fault} (kept: {folder})")
        shutil.rmtree(folder)
        return Result(number, kind, "", found)

    def _meet(self, kind: str, folder: Path, rng: np.random.Generator) -> str:
        if kind.startswith("full"):
            return self._full(kind, folder, rng)
        if kind.endswith("report"):
            return self._failing_report(kind.split()[0], folder, rng)
        if kind.endswith(COMMANDS):
            return self._failing_output(*kind.split(), folder, rng)
        if kind in _ERRORS:
            return self._failing(kind, Life(folder, stub=True), rng)
        if kind == "limit":  # the files of a stub are as small as its log
            return self._limit(Life(folder), rng)
        return getattr(self, f"_{kind}")(Life(folder, stub=True), rng)

    def _full(self, kind: str, folder: Path, rng: np.random.Generator) -> str:
        life = Life(folder, stub=True)
        life.workdir.mkdir(exist_ok=True)
        small = f"size={_PAGE * rng.integers(2, self._pages)},nr_inodes=10000"
        if kind == "full of files":
            small = f"size={_LARGE},nr_inodes={rng.integers(5, self._files)}"
        with _mounted(life.workdir, small):
            found = _refused_in_one_line(life.train()[0])
            _mount(life.workdir, f"remount,size={_LARGE},nr_inodes=10000")
            assert_same_end(life, self._of_stub)
        return found

    def _failing(self, error: str, life: Life, rng: np.random.Generator) -> str:
        environment = _failing(life, error, int(rng.integers(1, self._calls["train"] + 1)))
        found = _refused_in_one_line(life.train(environment=environment)[0])
        assert_same_end(life, self._of_stub)
        return found

    def _failing_report(self, error: str, folder: Path, rng: np.random.Generator) -> str:
        life = without_report(self._finished.copy(folder))
        environment = _failing(life, error, int(rng.integers(1, self._calls["eval"] + 1)))
        found = _refused_in_one_line(life.evaluate(environment=environment))
        assert_same_end(life, self._of_detector)
        return found

    def _failing_output(self, error: str, command: str, folder: Path, rng: np.random.Generator) -> str:
        life, process = self._outputs.meet(command, error, folder, rng)
        found = _refused_in_one_line(process)
        self._outputs.assert_same_files(command, life)
        return found

    def _limit(self, life: Life, rng: np.random.Generator) -> str:
        limit = int(10 ** rng.uniform(4, 6))  # bytes; the log of the process stays below

        def restrict() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

        found = _refused_in_one_line(life.train(before=restrict)[0])
        assert_same_end(life, self._of_detector)
        return found

    def _deleted(self, life: Life, rng: np.random.Generator) -> str:
        process = life.train()[0]
        wait_for(draw(_phase(rng), rng, stub=True), process, life.workdir)
        shutil.rmtree(life.workdir, ignore_errors=True)
        found = _refused_in_one_line(process)
        shutil.rmtree(life.workdir, ignore_errors=True)
        assert_same_end(life, self._of_stub)
        return found

    def _moved(self, life: Life, rng: np.random.Generator) -> str:
        process, away = life.train()[0], life.folder / "away"
        wait_for(draw(_phase(rng), rng, stub=True), process, life.workdir)
        if life.workdir.exists():
            os.rename(life.workdir, away)
        found = _refused_in_one_line(process)
        if away.exists():
            if life.workdir.exists() and has_files(life.workdir):
                raise Fault("the run was split between two folders")
            shutil.rmtree(life.workdir, ignore_errors=True)
            os.rename(away, life.workdir)
        assert_same_end(life, self._of_stub)
        return found

    def _locked(self, life: Life, rng: np.random.Generator) -> str:
        first = life.train()[0]
        while not (life.workdir / ".lock").exists() and not first.ended():
            wait_for(draw("start-up", rng, stub=True), first, life.workdir)
        second = life.train()[0]
        found = _refused_in_one_line(second)
        if first.wait() != 0:
            raise Fault(f"the first run ended with {first.status}: {last_line(first)}")
        assert_same_end(life, self._of_stub)
        return found


def has_files(workdir: Path) -> bool:
    """Whether anything of a checkpoint lies there."""
    return any(path.is_file() for path in (workdir / "checkpoints").rglob("*"))


def _phase(rng: np.random.Generator) -> str:
    return str(rng.choice(PHASES_OF_STUBS[1:]))


def _refused_in_one_line(process: Process) -> str:
    status = process.wait(_WITHIN)
    expect_no_traceback(process)
    if status == 0:
        return "ended before"
    said = process.said()
    if status != 2:
        raise Fault(f"status {status}: {last_line(process)}")
    if not last_line(process).startswith("error: ") or said.count("error: ") != 1:
        raise Fault(f"the last line is no error: {last_line(process)}")
    lines = "\n".join(line for line in said.splitlines() if _SLOW not in line)
    if noise := _NOISE.search(lines):
        raise Fault(f"lines beside the error: {lines[noise.start() :][:200]!r}")
    return "refused"


def _failing(life: Life, error: str, first: int) -> dict[str, str]:
    number = str(getattr(errno, error))
    return {"FAILING_DISK": str(life.workdir), "FAILING_FROM": str(first), "FAILING_ERRNO": number}


def _size(folder: Path) -> tuple[int, int]:
    """Pages and entries of a folder."""
    entries = list(folder.rglob("*"))
    return sum(-(-entry.stat().st_size // _PAGE) for entry in entries), len(entries)


def _count_calls(finished: Life, scratch: Path) -> dict[str, int]:
    """Calls that write in a training and in an evaluation."""
    calls = {}
    for name in ("train", "eval"):
        folder = scratch / f"counted_{name}"
        shutil.rmtree(folder, ignore_errors=True)
        life = Life(folder, stub=True) if name == "train" else without_report(finished.copy(folder))
        count = folder / "count"
        counting = {"FAILING_DISK": str(life.workdir), "FAILING_COUNT": str(count)}
        (life.train(environment=counting)[0] if name == "train" else life.evaluate(environment=counting)).wait()
        calls[name] = count.stat().st_size
        shutil.rmtree(folder)
    return calls


def _can_mount(scratch: Path) -> bool:
    try:
        (scratch / "mount").mkdir(exist_ok=True)
        with _mounted(scratch / "mount", "size=100k"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextlib.contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    _mount(folder, options)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)
