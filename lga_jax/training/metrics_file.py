"""metrics.jsonl: reading what an earlier process wrote, and adding lines.

A damaged line is skipped and reported; the file that held it is kept as metrics.jsonl.damaged.
"""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from lga_jax.errors import counted, listed
from lga_jax.files import Appending, unused_path, write_atomically

NAME = "metrics.jsonl"


class _Content(NamedTuple):
    lines: list[dict]
    damaged: list[int]  # numbers of lines, from 1


class MetricsFile:
    """The metrics of a run, one JSON object a line, as a context. All processes read; process 0 writes."""

    def __init__(self, workdir: str | os.PathLike, last_step: int, say: Callable[[str], None]) -> None:
        """Removes the lines after `last_step`: a run that continues there repeats them."""
        path = Path(workdir, NAME)
        content = _read(path)
        lines = [line for line in content.lines if line["step"] <= last_step]
        # step -> AP, nan if the evaluated images hold no objects
        self.evaluations = {line["step"]: _number(line["eval"]["AP"]) for line in lines if "eval" in line}
        self._file = None
        if jax.process_index() == 0:
            _keep_damaged(path, content.damaged, say)
            write_atomically(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
            self._file = Appending(path)

    def write(self, line: dict) -> None:
        """Adds a line. Raises UserError if the disk does not take it."""
        if self._file:
            self._file.write((json.dumps(line) + "\n").encode())

    def close(self) -> None:
        """Closes the file."""
        if self._file:
            self._file.close()


def _read(path: Path) -> _Content:
    if not path.is_file():
        return _Content([], [])
    lines, damaged = [], []
    for number, data in enumerate(path.read_bytes().splitlines(), start=1):
        line = _parse(data)
        if line is None:
            damaged.append(number)
        else:
            lines.append(line)
    return _Content(lines, damaged)


def _parse(data: bytes) -> dict | None:
    """None for a damaged line."""
    try:
        line = json.loads(data.decode())
    except (ValueError, RecursionError):  # neither UTF-8 nor JSON
        return None
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        return None
    return line if "eval" not in line or _has_score(line["eval"]) else None


def _has_score(summary: Any) -> bool:
    return isinstance(summary, dict) and isinstance(summary.get("AP", ""), int | float | None)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _keep_damaged(path: Path, damaged: list[int], say: Callable[[str], None]) -> None:
    """Copies a file with damaged lines, or moves a folder that has its name."""
    if path.is_dir() and not path.is_symlink():
        kept = unused_path(path.with_name(f"{NAME}.damaged"))
        os.rename(path, kept)
        say(f"{path}: expected a file, found a folder; it is kept as {kept}")
    elif damaged:
        kept = unused_path(path.with_name(f"{NAME}.damaged"))
        shutil.copyfile(path, kept)
        what = f"{counted(len(damaged), 'damaged line')} skipped (number {listed(damaged)})"
        say(f"{path}: {what}; the file is kept as {kept}")
