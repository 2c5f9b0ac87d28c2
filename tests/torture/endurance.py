"""A long run: memory, open files and threads must not grow."""

import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.torture.journal import Result
from tests.torture.lives import Fault, Life, expect
from tests.torture.processes import Process

STEPS = 20_000
_EVERY = 1000  # steps between two evaluations, and between two checkpoints
_MOST = 2.0  # per cent that memory may grow
_SAMPLE_SECONDS = 0.5
_OF_A_POOL = "ts_pool_worker"  # TensorStore starts these threads when it needs them and ends them when they rest


class Sample(NamedTuple):
    """A process at a moment."""

    step: int
    resident: int  # bytes
    files: int
    threads: int


class Endurance:
    """One trial. `steps` of a run of the smallest detector, with 20 evaluations and checkpoints."""

    def __init__(self, scratch: Path, seed: int, steps: int = STEPS) -> None:
        self._folder, self._steps = scratch / "endurance", steps

    def trial(self, number: int) -> Result:
        shutil.rmtree(self._folder, ignore_errors=True)
        life = Life(self._folder)
        every = min(_EVERY, self._steps // 20)
        changes = dict(num_steps=self._steps, eval_every=every, checkpoint_every=every, log_every=20)
        (process,) = life.train(changes=[f"--config.{key}={value}" for key, value in changes.items()])
        samples = _watch(process, life.workdir, self._steps)
        try:
            expect(process, 0)
            growth = check_flat(samples, self._steps)
        except Fault as fault:
            return Result(number, "endurance", str(fault))
        last = samples[-1]
        found = f"{last.files} files, {last.threads} threads, {last.resident / 2**20:.0f} MiB, memory {growth:+.2f} %"
        return Result(number, "endurance", "", found, figure=round(growth, 2))


def _watch(process: Process, workdir: Path, steps: int) -> list[Sample]:
    """Samples until the last step is done; what the process does at its end does not count."""
    samples: list[Sample] = []
    told = time.monotonic()
    while not process.ended():
        time.sleep(_SAMPLE_SECONDS)
        step = last_step(workdir / "metrics.jsonl")
        if 0 < step < steps and (sample := take(process.pid, step)):
            samples.append(sample)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(f"endurance: step {step:,} of {steps:,}", file=sys.stderr, flush=True)
    return samples


def last_step(metrics: Path) -> int:
    """The step of the last whole line; 0 without one."""
    try:
        with metrics.open("rb") as file:
            file.seek(max(0, metrics.stat().st_size - 4000))
            return json.loads(file.read().splitlines()[-1])["step"]
    except (OSError, ValueError, IndexError):
        return 0


def take(pid: int, step: int) -> Sample | None:
    """None if the process, or a thread just now, has ended. Threads of TensorStore's pool do not count."""
    process = Path(f"/proc/{pid}")
    try:
        pages = int((process / "statm").read_text().split()[1])
        files = len(os.listdir(process / "fd"))
        names = [(thread / "comm").read_text().strip() for thread in (process / "task").iterdir()]
    except OSError:
        return None
    return Sample(step, pages * os.sysconf("SC_PAGE_SIZE"), files, sum(name != _OF_A_POOL for name in names))


def check_flat(samples: Sequence[Sample], steps: int) -> float:
    """Growth of memory in per cent between the second and the last tenth of a run. Raises Fault if anything grew.

    Of files and threads the fewest of each tenth count: some are there only while a checkpoint is written. What is
    never given back raises the fewest, too.
    """
    early, late = (
        [sample for sample in samples if start * steps <= sample.step < end * steps]
        for start, end in ((0.1, 0.2), (0.9, 1.0))
    )
    if not early or not late:
        raise Fault(f"too few samples: {len(samples)}")
    resident, files, threads = (
        [count(getattr(sample, name) for sample in part) for part in (early, late)]
        for name, count in (("resident", statistics.median), ("files", min), ("threads", min))
    )
    growth = 100 * (resident[1] / resident[0] - 1)
    if growth > _MOST or files[1] > files[0] or threads[1] > threads[0]:
        raise Fault(
            f"memory {growth:+.2f} %, files {files[0]:g} -> {files[1]:g}, threads {threads[0]:g} -> {threads[1]:g}"
        )
    return growth
