"""Runs quick trials in forks of this process, so that a crash or a hang is known with its trial."""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.torture.journal import Result
from tests.torture.processes import Process, call

LONGEST = 10.0  # seconds of processor time of a trial; more is a hang
_WAIT = 600.0  # seconds on the clock: the machine may have other work
_PREPARING = 3600.0  # seconds before the first trial
_TRIALS = 500  # of one worker; TensorStore keeps 2.5 MiB at each reading of a checkpoint


def timed(trial: Callable[[int], Result], number: int) -> Result:
    """The result of a trial with its seconds."""
    start = time.monotonic()
    result = trial(number)
    return result._replace(seconds=round(time.monotonic() - start, 2))


def results_of_workers(make: Callable[[], Any], numbers: Sequence[int], scratch: Path) -> Iterator[Result]:
    """The results of all trials. After a crash or a hang a new worker goes on with the next trial."""
    left = list(numbers)
    while left:
        for result in _results_of_worker(make, left[:_TRIALS], scratch):
            left.remove(result.trial)
            yield result


def _results_of_worker(make: Callable[[], Any], numbers: Sequence[int], scratch: Path) -> Iterator[Result]:
    """Ends after the first crash or hang."""
    reading, writing = os.pipe()
    worker = call(lambda: _work(make, numbers, writing), scratch, scratch / "worker.log")
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as pipe:  # unbuffered: `select` sees what is left
        if not _next_line(pipe, worker, _PREPARING):
            raise RuntimeError(f"a worker ended before its first trial: {worker.said()[-2000:]}")
        for number in numbers:
            line = _next_line(pipe, worker, _WAIT)
            yield Result(**json.loads(line)) if line else _lost(number, worker)
            if not line:
                return
    worker.wait()


def _work(make: Callable[[], Any], numbers: Sequence[int], writing: int) -> None:
    trials = make()
    with os.fdopen(writing, "w") as pipe:
        print("ready", file=pipe, flush=True)
        for number in numbers:
            signal.setitimer(signal.ITIMER_PROF, LONGEST)  # SIGPROF ends a trial that computes for too long
            result = timed(trials.trial, number)
            signal.setitimer(signal.ITIMER_PROF, 0)
            print(json.dumps(result._asdict()), file=pipe, flush=True)


def _next_line(pipe: Any, worker: Process, seconds: float) -> bytes:
    """Nothing after a crash; a worker that says nothing for too long is killed."""
    if not select.select([pipe], [], [], seconds)[0]:
        worker.send(signal.SIGKILL)
    return pipe.readline()


def _lost(number: int, worker: Process) -> Result:
    status = worker.wait()
    hung = {128 + signal.SIGPROF: f"more than {LONGEST:.0f} s", 128 + signal.SIGKILL: f"no answer in {_WAIT:.0f} s"}
    lines = worker.said().strip().splitlines()
    fault = hung.get(status, f"the process ended with status {status}: {lines[-1][:200] if lines else ''}")
    print(f"a worker ended at trial {number}", file=sys.stderr)
    return Result(number, "worker", fault)
