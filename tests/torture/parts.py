"""Runs the trials of a part."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from tests.torture import processes
from tests.torture.damage import open_damage
from tests.torture.disk import Disk
from tests.torture.endurance import Endurance
from tests.torture.goals import PARTS
from tests.torture.inputs import Inputs
from tests.torture.journal import Journal, Progress, Result
from tests.torture.kill import Kill
from tests.torture.signals import Signals
from tests.torture.workers import results_of_workers, timed


class Trials(Protocol):
    """A trial is a function of its number and of the seed."""

    def trial(self, number: int) -> Result: ...


class Part(NamedTuple):
    """`in_workers`: trials run in forks, many in each, and may not start processes."""

    make: Callable[[Path, int], Trials]
    in_workers: bool = False


_PARTS = {
    "kill": Part(Kill),
    "kill-stub": Part(partial(Kill, stub=True)),
    "kill-two": Part(partial(Kill, num_processes=2, stub=True)),
    "signals": Part(Signals),
    "damage": Part(open_damage, in_workers=True),
    "disk": Part(Disk),
    "inputs": Part(Inputs, in_workers=True),
    "endurance": Part(Endurance),
}


def run(name: str, scratch: Path, output: Path, trials: int | None, seed: int) -> None:
    """Runs the trials of a part that have no result yet."""
    part = _PARTS[name]
    trials = PARTS[name].trials if trials is None else trials
    journal = Journal(output, name, seed)
    if missing := journal.missing(trials):
        processes.import_everything()
        progress = Progress(name, len(missing))
        for result in _results(part, scratch, seed, missing):
            journal.add(result)
            progress.tell(result)


def _results(part: Part, scratch: Path, seed: int, missing: list[int]) -> Iterator[Result]:
    if part.in_workers:
        yield from results_of_workers(lambda: part.make(scratch, seed), missing, scratch)
        return
    trials = part.make(scratch, seed)
    for number in missing:
        yield timed(trials.trial, number)
