"""Random moments of a run's life: in a phase that is seen from outside, plus a random delay."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.torture.processes import Process

_EVERY = 0.002  # seconds between two looks
_FINISHED = re.compile(r"[0-9]+")


class Moment(NamedTuple):
    """`delay` seconds after the phase began for the `count`th time."""

    phase: str
    count: int
    delay: float


class _View:
    """What can be seen of a run from outside: its log and its checkpoints."""

    def __init__(self, process: Process, workdir: Path) -> None:
        self._process, self._checkpoints, self._workdir = process, workdir / "checkpoints", workdir
        self.being_saved: set[str] = set()
        self.saved: set[str] = set()
        self.log = ""

    def look(self) -> None:
        self.log = self._process.said()
        names = [path.name for path in self._checkpoints.glob("*")] if self._checkpoints.is_dir() else []
        self.being_saved |= {name for name in names if "orbax-checkpoint-tmp" in name}
        self.saved |= {name for name in names if _FINISHED.fullmatch(name)}

    @property
    def num_reports(self) -> int:
        return len(list(self._workdir.glob("eval_*")))


class _Phase(NamedTuple):
    """`begun`: how often it has begun. `most`: how often it begins in a run of the small recipe."""

    begun: Callable[[_View], int]
    seconds: float  # its length
    most: int = 1


_PHASES = {
    "imports": _Phase(lambda view: 1, 3.0),
    "start-up": _Phase(lambda view: 1, 2.5),
    "compile": _Phase(lambda view: view.log.count("compiling the"), 2.5),
    "step": _Phase(lambda view: view.log.count("compiled for"), 3.0),
    "save": _Phase(lambda view: len(view.being_saved), 0.15, most=7),
    "delete": _Phase(lambda view: max(0, len(view.saved) - 2), 0.03, most=5),
    "evaluation": _Phase(lambda view: view.log.count("evaluating:   0%"), 0.5, most=4),
    "report": _Phase(lambda view: view.num_reports, 1.0),
}
PHASES_OF_STUBS = ("start-up", "compile", "step", "save", "delete")  # their evaluation takes no time
PHASES_OF_TRAINING = (*PHASES_OF_STUBS, "evaluation")


def draw(phase: str, rng: np.random.Generator, stub: bool = False) -> Moment:
    """A moment of a phase; all that a stub does is shorter."""
    _, seconds, most = _PHASES[phase]
    return Moment(phase, int(rng.integers(1, most + 1)), float(rng.uniform(0, seconds * (0.3 if stub else 1))))


def wait_for(moment: Moment, process: Process, workdir: Path) -> bool:
    """Waits for the moment. False if the process ended before."""
    begun = _PHASES[moment.phase].begun
    view = _View(process, workdir)
    while not process.ended():
        view.look()
        if begun(view) >= moment.count:
            time.sleep(moment.delay)
            return not process.ended()
        time.sleep(_EVERY)
    return False
