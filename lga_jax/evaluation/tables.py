"""An evaluation as text for people and as files for programs."""

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lga_jax.errors import UserError, remedy_for_writing
from lga_jax.evaluation.attention import AttentionStatistics, ChallengeAP
from lga_jax.evaluation.run import EvalResult

_WIDTH = 24  # of the column of names


def format_result(result: EvalResult) -> str:
    """The twelve metrics, AP per class and, where the source has them, per challenge; attention in a sentence."""
    return "\n".join(
        [
            f"{result.num_images} images, {len(result.detections)} detections",
            *_notes(result),
            "",
            *_rows(result.summary),
            "",
            "AP per class",
            *_rows(result.per_class),
            *_challenge_table(result.challenges),
            *(["", describe_attention(result.attention)] if result.attention else []),
        ]
    )


def describe_attention(attention: AttentionStatistics) -> str:
    """Hit rate beside chance and the spread, in sentences."""
    if not attention.num_true_positives:
        return "Attention: no true positive to look at."
    each = ", ".join(f"{rate:.3f}" for rate in attention.hit_rate_per_mask)
    return (
        f"Attention: of {attention.num_true_positives} true positives, a share of {attention.hit_rate:.3f} has a "
        f"Gaussian centre in the part that tells the classes apart; by chance {attention.chance:.3f}.\n"
        f"Each mask alone: {each}; by chance {attention.chance_per_mask:.3f}. "
        f"Spread of the centres: {attention.spread:.2f} cells of 7."
    )


def challenge_matrix(challenges: list[ChallengeAP]) -> list[tuple[str, dict[int, ChallengeAP]]]:
    """One row per challenge: its APs by severity."""
    rows: dict[str, dict[int, ChallengeAP]] = {}
    for entry in challenges:
        rows.setdefault(entry.challenge, {})[entry.severity] = entry
    return list(rows.items())


def make_folder(folder: str | os.PathLike) -> None:
    """Makes an output folder unless it is there. Raises UserError where nothing could be written into it.

    To be called before the hours of work whose result it is for.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"{folder}: expected a folder that can be written, found: {error.strerror}; {remedy_for_writing(error)}"
        ) from error


def write_result(result: EvalResult, folder: str | os.PathLike) -> None:
    """Writes detections.json (COCO results) and metrics.json into a folder that `make_folder` made.

    A file that is there stays whole until it is replaced.
    """
    metrics = result._replace(
        detections=len(result.detections),
        challenges=[entry._asdict() for entry in result.challenges],
        attention=result.attention and result.attention._asdict(),
    )._asdict()
    write_json(Path(folder) / "detections.json", result.detections)
    write_json(Path(folder) / "metrics.json", null_for_nan(metrics), indent=2)


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Strict JSON, written beside its place and renamed into it."""
    write_atomically(path, json.dumps(content, indent=indent, allow_nan=False).encode())


def write_atomically(path: Path, data: bytes) -> None:
    """What was at `path` is replaced as a whole, or stays as it was and UserError is raised."""
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
        temporary.chmod(0o644)  # temporary files are private
        temporary.replace(path)
    except OSError as error:
        if temporary:
            temporary.unlink(missing_ok=True)
        raise UserError(
            f"{path}: expected to write it, found: {error.strerror}; {remedy_for_writing(error)}"
        ) from error


def null_for_nan(value: Any) -> Any:
    """The value with None for every nan in it: JSON has no nan, a reader other than Python's would refuse the file."""
    if isinstance(value, Mapping):
        return {key: null_for_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [null_for_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _notes(result: EvalResult) -> Iterator[str]:
    if result.num_non_finite:
        yield f"WARNING: {result.num_non_finite} detections were not finite and are left out: has the model diverged?"
    if missing := sum(math.isnan(ap) for ap in result.per_class.values()):
        yield f"{missing} of {len(result.per_class)} classes have no object in these images: no AP, written '-'"


def _rows(values: dict[str, float]) -> list[str]:
    return [f"  {name:<{_WIDTH}}{_number(value)}" for name, value in values.items()]


def _number(value: float) -> str:
    return f"{'-':>6}" if math.isnan(value) else f"{value:6.4f}"


def _challenge_table(challenges: list[ChallengeAP]) -> list[str]:
    if not challenges:
        return []
    severities = sorted({entry.severity for entry in challenges})
    head = "".join(f"{f'severity {severity}' if severity else 'none':>12}" for severity in severities)
    rows = [
        f"  {name:<{_WIDTH}}"
        + "".join(f"{_number(row[severity].ap) if severity in row else '':>12}" for severity in severities)
        for name, row in challenge_matrix(challenges)
    ]
    return ["", f"{'AP per challenge':<{_WIDTH + 2}}{head}", *rows]
