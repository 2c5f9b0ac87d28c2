"""SIGTERM and SIGINT at random moments, from the first import on."""

import re
import shutil
import signal
import time
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
from tests.torture.moments import draw, wait_for
from tests.torture.processes import Process

_WITHIN = 30.0  # seconds from the signal to the end
_AT_ONCE = 3.0  # the same before the first step; the machine may be busy
_ENDED = re.compile(r"done: |written: ")
_EARLY = ("imports", "start-up", "compile", "cold compile")  # before the first step
_OF_STUBS = ("step", "save", "delete")
_PHASES = (*_EARLY, *_OF_STUBS, "evaluation", "report", *_OF_STUBS, "start-up")


class Signals:
    """Phases and the two signals in turn.

    The interpreter is a new one during imports, while nothing is in JAX's cache, and in some of the other trials.
    """

    def __init__(self, scratch: Path, seed: int) -> None:
        self._scratch, self._seed = scratch, seed
        self._finished, self._of_detector = undisturbed(scratch)
        _, self._of_stub = undisturbed(scratch, stub=True)

    def trial(self, number: int) -> Result:
        """One signal, then the same command to the end."""
        rng = np.random.default_rng([self._seed, number])
        phase = _PHASES[number % len(_PHASES)]
        sent = (signal.SIGTERM, signal.SIGINT)[number // len(_PHASES) % 2]
        folder = self._scratch / f"signal_{number}"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            life = (
                without_report(self._finished.copy(folder))
                if phase == "report"
                else Life(folder, 1, phase in _OF_STUBS)
            )
            seconds, found = self._stop(life, phase, sent, rng)
            if phase not in _EARLY:  # before the first step nothing is saved
                assert_same_end(life, self._of_stub if life.stub else self._of_detector)
        except (Fault, TimeoutError) as fault:
            return Result(number, f"{sent.name} {phase}", f"{fault} (kept: {folder})")
        shutil.rmtree(folder)
        return Result(number, f"{sent.name} {phase}", "", found, figure=round(seconds, 2))

    def _stop(self, life: Life, phase: str, sent: signal.Signals, rng: np.random.Generator) -> tuple[float, str]:
        process = self._start(life, phase, rng)
        wait_for(draw({"cold compile": "compile"}.get(phase, phase), rng, life.stub), process, life.workdir)
        early = phase in _EARLY and "compiled for" not in process.said()
        start = time.monotonic()
        process.send(sent)
        status = process.wait()
        seconds = time.monotonic() - start
        expect_no_traceback(process)
        self._check(process, status, sent, seconds, early)
        return seconds, _end(status, early, phase)

    def _start(self, life: Life, phase: str, rng: np.random.Generator) -> Process:
        if phase == "report":
            return life.evaluate()
        fresh = phase in ("imports", "cold compile") or (phase == "start-up" and bool(rng.integers(2)))
        cold = {"JAX_COMPILATION_CACHE_DIR": str(life.folder / "nothing")} if phase == "cold compile" else {}
        return life.train(fresh=fresh, environment=cold)[0]

    def _check(self, process: Process, status: int, sent: signal.Signals, seconds: float, early: bool) -> None:
        if status not in (128 + sent, 0) or (status == 0 and not _ENDED.search(process.said())):
            raise Fault(f"status {status}: {last_line(process)}")
        if seconds > (_AT_ONCE if early else _WITHIN):
            raise Fault(f"ended {seconds:.1f} s after the signal{', before the first step' if early else ''}")


def _end(status: int, early: bool, phase: str) -> str:
    if status == 0:
        return "ended before"
    if phase == "report":
        return "stopped in eval.py"
    return "stopped before the first step" if early else "saved and stopped"
