"""Reads metrics.jsonl of earlier processes and appends lines.

Damaged lines are skipped and reported; the damaged file is kept as metrics.jsonl.damaged.
"""

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax

from lga_jax.errors import UserError, counted, listed
from lga_jax.files import Appending, unused_path, write_atomically, writing
from lga_jax.training.start import say

NAME = "metrics.jsonl"


class _Content(NamedTuple):
    lines: list[dict]
    damaged: list[int]  # line numbers, from 1


class MetricsFile:
    """The metrics of a run, one JSON object per line. All processes read; process 0 writes."""

    def __init__(self, workdir: str | os.PathLike, last_step: int) -> None:
        """Removes the lines after `last_step`: a resumed run repeats them."""
        path = Path(workdir, NAME)
        content = _read(path)
        lines = [line for line in content.lines if line["step"] <= last_step]
        # step -> AP, nan if the evaluated images have no objects
        self.evaluations = {line["step"]: _number(line["eval"]["AP"]) for line in lines if "eval" in line}
        # step -> total loss on the evaluation images, of evaluations that computed it
        self.evaluation_losses = {
            line["step"]: _number(line["losses"].get("total")) for line in lines if isinstance(line.get("losses"), dict)
        }
        self._file = None
        if jax.process_index() == 0:
            _keep_damaged(path, content.damaged)
            write_atomically(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
            self._file = Appending(path)

    def write(self, line: dict) -> None:
        """Adds a line. Raises UserError if writing fails."""
        if self._file:
            self._file.write((json.dumps(line) + "\n").encode())

    def close(self) -> None:
        """Closes the file."""
        if self._file:
            self._file.close()


def _read(path: Path) -> _Content:
    if not path.is_file():
        return _Content([], [])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            str(path), expected="a readable file", found=str(error.strerror), remedy="check the disk and the rights"
        ) from error
    lines, damaged = [], []
    for number, data in enumerate(content.splitlines(), start=1):
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


def _keep_damaged(path: Path, damaged: list[int]) -> None:
    """Copies a file with damaged lines, or moves a folder that has its name."""
    is_folder = path.is_dir() and not path.is_symlink()
    if not (damaged or is_folder):
        return
    kept = unused_path(path.with_name(f"{NAME}.damaged"))
    with writing(kept):
        if is_folder:
            os.rename(path, kept)
        else:
            shutil.copyfile(path, kept)
    lines = f"{counted(len(damaged), 'damaged line')} skipped (number {listed(damaged)})"
    say(f"{path}: {'expected a file, found a folder' if is_folder else lines}; kept as {kept}")
