"""The results of trials, one JSON line each, so that an interrupted part goes on where it stopped."""

import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Result(NamedTuple):
    """One trial."""

    trial: int
    kind: str
    fault: str  # "" without one
    found: str = ""  # what happened, in a word, where there are several good ends
    seconds: float = 0.0
    figure: float = 0.0  # a measurement of the trial: seconds from the signal to the end, ...


class Journal:
    """folder/PART.jsonl. Results of other sources of the library than the present ones are dropped."""

    def __init__(self, folder: Path, part: str, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{part}.jsonl"
        self._head = {"part": part, "seed": seed, "sources": digest_of_sources()}
        self.results: dict[int, Result] = {}
        if self._is_of_same_sources():
            for line in self.path.read_text().splitlines()[1:]:
                self._take(line)
        else:
            self.path.write_text(json.dumps(self._head) + "\n")

    def _is_of_same_sources(self) -> bool:
        lines = self.path.read_text().splitlines() if self.path.is_file() else []
        return bool(lines) and json.loads(lines[0]) == self._head

    def _take(self, line: str) -> None:
        try:
            result = Result(**json.loads(line))
        except (ValueError, TypeError):  # the harness was killed while it wrote
            return
        self.results[result.trial] = result

    def add(self, result: Result) -> None:
        self.results[result.trial] = result
        with self.path.open("a") as file:
            file.write(json.dumps(result._asdict()) + "\n")

    def missing(self, trials: int) -> list[int]:
        return [number for number in range(trials) if number not in self.results]


def read_summary(path: Path) -> dict:
    """Figures of a journal; {} if there is none."""
    lines = path.read_text().splitlines() if path.is_file() else []
    results = [Result(**json.loads(line)) for line in lines[1:]]
    kinds = sorted({result.kind for result in results})
    return results and {
        **json.loads(lines[0]),
        "trials": len(results),
        "without_fault": sum(not result.fault for result in results),
        "kinds": {kind: _tally(result for result in results if result.kind == kind) for kind in kinds},
        "found": dict(Counter(result.found for result in results if not result.fault).most_common()),
        "largest_figure": max(result.figure for result in results),
        "seconds": round(sum(result.seconds for result in results)),
        "faults": [f"{result.trial} ({result.kind}): {result.fault}" for result in results if result.fault],
    }


def _tally(results: Iterator[Result]) -> str:
    faults = [bool(result.fault) for result in results]
    return f"{len(faults) - sum(faults)} of {len(faults)}"


def digest_of_sources() -> str:
    """SHA-256 of the library: figures belong to it."""
    sha = hashlib.sha256()
    for path in sorted((ROOT / "lga_jax").rglob("*.py")):
        sha.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return sha.hexdigest()[:16]


class Progress:
    """A line every few seconds: trials, faults and the time that is left."""

    def __init__(self, part: str, total: int, every: float = 10.0) -> None:
        self._part, self._total, self._every = part, total, every
        self._start = self._said = time.monotonic()
        self._done = self._faults = 0

    def tell(self, result: Result) -> None:
        self._done += 1
        self._faults += bool(result.fault)
        now = time.monotonic()
        if result.fault:
            print(f"{self._part} trial {result.trial} ({result.kind}): {result.fault}", flush=True)
        if now - self._said >= self._every or self._done == self._total:
            self._said = now
            left = (now - self._start) / self._done * (self._total - self._done)
            counts = f"{self._done} of {self._total}, {self._faults} faults"
            print(f"{self._part}: {counts}, {left / 60:.1f} minutes left", file=sys.stderr, flush=True)
