"""SIGKILL at random moments: the same command continues, and the run ends as if nothing had happened."""

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
from tests.torture.moments import PHASES_OF_STUBS, PHASES_OF_TRAINING, draw, wait_for
from tests.torture.processes import Process


class Kill:
    """Runs of `num_processes` processes; `stub`: with a stub for the detector."""

    def __init__(self, scratch: Path, seed: int, num_processes: int = 1, stub: bool = False) -> None:
        self._scratch, self._seed, self._num_processes, self._stub = scratch, seed, num_processes, stub
        self._undisturbed, self._expected = undisturbed(scratch, num_processes, stub)
        self._longest = 0.0  # seconds that a process of a trial ran without its neighbour
        self._phases = PHASES_OF_STUBS if stub else PHASES_OF_TRAINING

    def trial(self, number: int) -> Result:
        """Kills once or twice in training, or once in eval.py."""
        rng = np.random.default_rng([self._seed, number])
        phases = self._phases if self._stub else (*self._phases, "report")
        phase = phases[number % len(phases)]
        folder = self._scratch / f"kill_{'stub' if self._stub else 'detector'}_{self._num_processes}_{number}"
        shutil.rmtree(folder, ignore_errors=True)
        self._longest = 0.0
        try:
            hit = self._kill_report(folder, rng) if phase == "report" else self._kill_training(folder, phase, rng)
        except (Fault, TimeoutError) as fault:
            return Result(number, phase, f"{fault} (kept: {folder})")
        shutil.rmtree(folder)
        return Result(number, phase, "", found="killed" if hit else "ended before", figure=round(self._longest, 2))

    def _kill_training(self, folder: Path, phase: str, rng: np.random.Generator) -> bool:
        life, hit = Life(folder, self._num_processes, self._stub), False
        for drawn in (phase, *rng.choice(self._phases, rng.integers(2))):
            together = life.train()
            hit |= wait_for(draw(drawn, rng, self._stub), together[0], life.workdir)
            self._kill(together, rng)
        assert_same_end(life, self._expected)
        return hit

    def _kill(self, together: list, rng: np.random.Generator) -> None:
        """One of the processes. The others must end by themselves within a minute, with one line."""
        lost = rng.integers(len(together))
        together[lost].send(signal.SIGKILL)
        together[lost].wait()
        for number, process in enumerate(together):
            if number != lost:
                self._wait_for_neighbour(process)

    def _wait_for_neighbour(self, process: Process) -> None:
        start = time.monotonic()
        try:
            status = process.wait(60.0)
        except TimeoutError as error:
            raise Fault("a process that lost its neighbour ran for more than 60 s") from error
        self._longest = max(self._longest, time.monotonic() - start)
        expect_no_traceback(process)
        if status and not (last_line(process).startswith("error: ") and process.said().count("error: ") == 1):
            raise Fault(f"a process that lost its neighbour said: {last_line(process)}")

    def _kill_report(self, folder: Path, rng: np.random.Generator) -> bool:
        life = without_report(self._undisturbed.copy(folder))
        process = life.evaluate()
        hit = wait_for(draw("report", rng), process, life.workdir)
        process.send(signal.SIGKILL)
        process.wait()
        assert_same_end(life, self._expected)
        return hit
