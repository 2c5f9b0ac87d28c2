"""The life of a run from its first step to its report, and what is left of it at its end."""

import hashlib
import json
import re
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from tests.torture import processes
from tests.torture.journal import digest_of_sources
from tests.torture.processes import Process
from tests.torture.recipe import SMALL, STUB, write_recipe
from tests.training import stubs

JOIN_SECONDS = 30  # until all processes of a run have started


_REPORT = re.compile(r"eval_[^/]*/[^/]*\.json")


class Fault(Exception):  # noqa: N818
    """What a trial found, in one line."""


class Life:
    """A run in folder/run, with `num_processes` processes that share it; `stub`: with a stub for the detector."""

    def __init__(self, folder: Path, num_processes: int = 1, stub: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.workdir, self.num_processes, self.stub = folder, folder / "run", num_processes, stub
        write_recipe(folder, STUB if stub else SMALL)
        self._starts = 0

    def train(
        self, before: Callable[[], Any] = lambda: None, changes: Sequence[str] = (), **options: Any
    ) -> list[Process]:
        """Starts training, or resumes it. `before` is called in the process; `changes` are further arguments."""
        self._starts += 1

        def prepare() -> None:
            before()
            if self.stub:
                stubs.install(SimpleNamespace(setattr=setattr))

        return [
            self._start(
                ["train", *self._of_run(), *changes, *together],
                f"train{self._starts}_{number}",
                before=prepare,
                **options,
            )
            for number, together in enumerate(self._together())
        ]

    def evaluate(self, **options: Any) -> Process:
        """Starts eval.py of the best checkpoint."""
        self._starts += 1
        return self._start(["eval", *self._of_run()], f"eval{self._starts}", **options)

    def export(self, **options: Any) -> Process:
        """Starts export of the best checkpoint."""
        self._starts += 1
        command = ["export", "--workdir", "run", "--format", "stablehlo", "--output", "output/detector.stablehlo"]
        return self._start(command, f"export{self._starts}", **options)

    def predict(self, **options: Any) -> Process:
        """Starts predict.py on the images of `photos`."""
        self._starts += 1
        command = ["predict", "--workdir", "run", "--input", "photos", "--output", "output/found"]
        return self._start([*command, "--score_threshold", "0"], f"predict{self._starts}", **options)

    def _start(self, command: list[str], name: str, **options: Any) -> Process:
        return processes.start(command, self.folder, self.folder / f"{name}.log", **options)

    def _of_run(self) -> list[str]:
        return ["--config", "small.py", "--workdir", "run"]

    def _together(self) -> list[list[str]]:
        if self.num_processes == 1:
            return [[]]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"--coordinator_address=127.0.0.1:{free.getsockname()[1]}"
        together = [address, f"--num_processes={self.num_processes}", f"--join_seconds={JOIN_SECONDS}"]
        return [[*together, f"--process_id={number}"] for number in range(self.num_processes)]

    def finish(self) -> None:
        """Trains to the end and evaluates. Raises Fault if either does not end as usual."""
        for process in self.train():
            expect(process, 0)
        if not self.stub:
            expect(self.evaluate(), 0)

    def remains(self) -> "Remains":
        """What is left, read by a process of its own; every checkpoint is read and verified."""
        place = self.folder / "remains.json"
        process = processes.call(lambda: _write_remains(self.workdir, place), self.folder, self.folder / "remains.log")
        expect(process, 0)
        return Remains(**json.loads(place.read_text()))

    def copy(self, folder: Path) -> "Life":
        """The same run in another folder."""
        shutil.copytree(self.folder, folder)
        return Life(folder, self.num_processes, self.stub)


class Remains(NamedTuple):
    """The end of a run."""

    digests: dict[str, dict]  # of each checkpoint that is left: parameters, optimizer, position in the data
    scores: dict[str, float]
    best: int
    metrics: str  # metrics.jsonl
    reports: dict[str, str]  # SHA-256 of the files of eval.py

    def difference(self, other: "Remains") -> str:
        """The first field that differs; "" if none does."""
        return next((name for name in self._fields if getattr(self, name) != getattr(other, name)), "")


def _write_remains(workdir: Path, place: Path) -> None:
    from lga_jax.checkpoints.read import best_step, folder_of, read_scores, restore_params

    directory = Path(folder_of(str(workdir)))
    steps = sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())
    digests = {step: dict(restore_params(str(workdir), step).manifest["digests"]) for step in steps}
    for entry in digests.values():
        del entry["manifest"]
    scores = read_scores(str(directory), steps)
    remains = Remains(
        digests=digests,
        scores=scores,
        best=best_step(scores, steps),
        metrics=(workdir / "metrics.jsonl").read_text(),
        reports={name: digest for name, digest in digests_below(workdir).items() if _REPORT.fullmatch(name)},
    )
    place.write_text(json.dumps(remains._asdict()))


def digests_below(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below a folder, by its path there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def expect(process: Process, status: int, seconds: float = 3600.0) -> None:
    """Raises Fault unless the process ends with this status and without a traceback."""
    found = process.wait(seconds)
    if found != status:
        raise Fault(f"status {found} instead of {status}: {last_line(process)}")
    expect_no_traceback(process)


def expect_no_traceback(process: Process) -> None:
    """Raises Fault if the log has a traceback."""
    said = process.said()
    if "Traceback" in said or "Fatal Python error" in said:
        raise Fault(f"a traceback: {last_line(process)}")


def last_line(process: Process) -> str:
    """The last line that the process wrote."""
    lines = process.said().strip().splitlines()
    return lines[-1][:300] if lines else ""


def undisturbed(scratch: Path, num_processes: int = 1, stub: bool = False) -> tuple[Life, Remains]:
    """A run that nothing disturbs, made once by these sources; it also fills JAX's compilation cache."""
    folder = scratch / f"undisturbed_{'stub' if stub else 'detector'}_{num_processes}"
    made_by = folder / "sources"
    if made_by.is_file() and made_by.read_text() == digest_of_sources():
        return Life(folder, num_processes, stub), Remains(**json.loads((folder / "remains.json").read_text()))
    shutil.rmtree(folder, ignore_errors=True)
    life = Life(folder, num_processes, stub)
    life.finish()
    remains = life.remains()
    made_by.write_text(digest_of_sources())
    return life, remains


def assert_same_end(life: Life, expected: Remains) -> None:
    """Finishes the run; raises Fault unless the same is left as of the undisturbed one."""
    life.finish()
    if different := life.remains().difference(expected):
        raise Fault(f"{different} differ from the undisturbed run's")


def without_report(life: Life) -> Life:
    """A finished run before eval.py."""
    for path in (*life.workdir.glob("eval_*"), *life.workdir.glob("report.html")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return life
