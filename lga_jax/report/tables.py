"""The result of an evaluation as text for the terminal and as JSON files."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lga_jax.data.source import Source, truth_of
from lga_jax.errors import counted
from lga_jax.evaluation.evaluate import EvalResult
from lga_jax.evaluation.mask_hits import AttentionStatistics, ChallengeAP
from lga_jax.files import null_for_nan, write_json
from lga_jax.report.analysis_json import analysis_json, curves_json
from lga_jax.terminal import cell

_WIDTH = 24  # characters of the column of names


def format_result(result: EvalResult) -> str:
    """COCO's metrics of boxes and object masks, AP per class, AP per challenge, and the hit rate of the masks."""
    return "\n".join(
        [
            f"{counted(result.num_images, 'image')}, {counted(len(result.detections), 'detection')}",
            *_notes(result),
            "",
            *_rows(result.summary),
            "",
            "AP per class",
            *_rows(result.per_class),
            *(["", "AP of object masks per class", *_rows(result.segm_per_class)] if result.segm_per_class else []),
            *_challenge_table(result.challenges),
            *(["", describe_attention(result.attention)] if result.attention else []),
        ]
    )


def describe_attention(attention: AttentionStatistics) -> str:
    """Sentences with the hit rate of the masks, the rate by chance, and the spread of the centres."""
    if not attention.num_true_positives:
        return "Attention: no true positives."
    each = ", ".join(f"{rate:.1%}" for rate in attention.hit_rate_per_mask)
    return (
        f"Attention: for {attention.hit_rate:.1%} of {counted(attention.num_true_positives, 'true positive')}, a "
        f"Gaussian centre lies in the part that decides the class; by chance for {attention.chance:.1%}.\n"
        f"Each mask alone: {each}; by chance {attention.chance_per_mask:.1%}. "
        f"Spread of the centres: {attention.spread:.2f} cells of 7."
    )


def challenge_matrix(challenges: list[ChallengeAP]) -> list[tuple[str, dict[int, ChallengeAP]]]:
    """One row per challenge: severity -> AP."""
    rows: dict[str, dict[int, ChallengeAP]] = {}
    for entry in challenges:
        rows.setdefault(entry.challenge, {})[entry.severity] = entry
    return list(rows.items())


def write_result(result: EvalResult, source: Source, folder: str | os.PathLike, about: Mapping[str, Any]) -> None:
    """Writes detections.json (COCO results), metrics.json and curves.json into a folder that `make_folder` made.

    A file that is there stays whole until it is replaced. `about`: further entries of metrics.json.
    """
    metrics = (
        dict(about)
        | result._replace(
            detections=len(result.detections),
            challenges=[entry._asdict() for entry in result.challenges],
            attention=result.attention and result.attention._asdict(),
            **{
                key: analysis and analysis_json(analysis, truth_of(source), result.detections)
                for key, analysis in (("analysis", result.analysis), ("segm_analysis", result.segm_analysis))
            },
        )._asdict()
    )
    write_json(Path(folder) / "detections.json", result.detections)
    if result.analysis:
        segm = {"segm": curves_json(result.segm_analysis)} if result.segm_analysis else {}
        write_json(Path(folder) / "curves.json", null_for_nan(curves_json(result.analysis) | segm))
    write_json(Path(folder) / "metrics.json", null_for_nan(metrics), indent=2)


def _notes(result: EvalResult) -> Iterator[str]:
    if result.num_non_finite:
        found = counted(result.num_non_finite, "detection")
        yield f"WARNING: {found} without finite numbers left out: has the model diverged?"
    if missing := sum(math.isnan(ap) for ap in result.per_class.values()):
        yield f"{missing} of {len(result.per_class)} classes have no object in these images: no AP, written '-'"


def _rows(values: dict[str, float]) -> list[str]:
    return [f"  {cell(name, _WIDTH - 1)} {_number(value)}" for name, value in values.items()]


def _number(value: float) -> str:
    return f"{'-':>6}" if math.isnan(value) else f"{value:6.4f}"


def _challenge_table(challenges: list[ChallengeAP]) -> list[str]:
    if not challenges:
        return []
    severities = sorted({entry.severity for entry in challenges})
    head = "".join(f"{f'severity {severity}' if severity else 'none':>12}" for severity in severities)
    rows = [
        f"  {cell(name, _WIDTH - 1)} "
        + "".join(f"{_number(row[severity].ap) if severity in row else '':>12}" for severity in severities)
        for name, row in challenge_matrix(challenges)
    ]
    return ["", f"{'AP per challenge':<{_WIDTH + 2}}{head}", *rows]
