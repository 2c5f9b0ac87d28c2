"""The course of a run from its metrics.jsonl: losses, AP, learning rate and gradient norm over the steps."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from lga_jax.report.plots import COLOURS, TEXT_COLOUR, Curve, line_plot

_LOSSES = ("total", "rpn_objectness", "rpn_box", "roi_class", "roi_box", "guide")
_SMOOTHING_POINTS = 60  # a curve is smoothed over as many of its points that about this many remain


def read_metrics(path: Path) -> list[dict]:
    """The lines of a metrics.jsonl; damaged ones and an unfinished last one are left out. Empty without a file."""
    lines = map(_parse, path.read_bytes().splitlines() if path.is_file() else ())
    return [line for line in lines if line is not None]


def _parse(data: bytes) -> dict | None:
    try:
        line = json.loads(data.decode())
    except (ValueError, RecursionError):  # neither UTF-8 nor JSON
        return None
    if not isinstance(line, dict) or not math.isfinite(_number(line.get("step"))):
        return None
    sections = (line[name] for name in ("eval", "eval_raw", "losses") if line.get(name) is not None)
    return line if all(isinstance(section, dict) for section in sections) else None


def training_plots(metrics: Sequence[dict]) -> list[str]:
    """Plots as HTML; none without lines."""
    return [
        line_plot(title, curves, ("step", label), unit=(False, label == "AP"), log=label == "norm", note=note)
        for title, label, curves, note in _panels(metrics)
    ]


def _panels(metrics: Sequence[dict]) -> Iterator[tuple[str, str, list[Curve], str]]:
    """(title, label of the values, curves, note) of each plot."""
    losses = [line for line in metrics if "total" in line]
    scores = [line for line in metrics if "eval" in line]
    validated = [line for line in scores if line.get("losses")]
    if losses:
        curves = [*loss_curves(losses), *validation_curves(validated)]
        smoothed = any(curve.faint is not None for curve in curves)
        yield "training loss", "loss", curves, "Faint: as logged. Strong: smoothed." if smoothed else ""
    if scores:
        yield "AP of the evaluations", "AP", score_curves(scores), ""
    if losses and "lr" in losses[0]:
        yield "learning rate", "rate", [_logged(losses, "lr", COLOURS[0])], ""
    if losses and "grad_norm" in losses[0]:
        yield "gradient norm, before clipping", "norm", [_logged(losses, "grad_norm", COLOURS[1])], ""


def loss_curves(losses: Sequence[dict]) -> list[Curve]:
    """The losses, smoothed if there are many; `losses` are the lines of metrics.jsonl with losses."""
    curves, window = [], len(losses) // _SMOOTHING_POINTS
    for name, colour in zip(_LOSSES, COLOURS, strict=False):
        if name in losses[0]:
            curve = _logged(losses, name, colour)
            if window > 1:
                curve = curve._replace(y=smooth(curve.y, window), faint=curve.y)
            curves.append(curve._replace(strong=name == "total"))
    return curves


def validation_curves(scores: Sequence[dict]) -> list[Curve]:
    """The total loss on the evaluation images; `scores` are the lines of evaluations with losses."""
    if not scores:
        return []
    values = np.array([_number(line["losses"].get("total")) for line in scores])
    return [Curve("total, evaluation images", _steps(scores), values, TEXT_COLOUR, strong=True, dots=True)]


def score_curves(scores: Sequence[dict]) -> list[Curve]:
    """AP and AP50 of the evaluations, with their last values in the names; a missing one leaves a gap.

    A third curve shows the AP without the moving average where a run computed it.
    """
    curves = [_score_curve(scores, "eval", name, colour) for name, colour in (("AP", COLOURS[0]), ("AP50", COLOURS[1]))]
    curves[0] = curves[0]._replace(strong=True)
    if any(line.get("eval_raw") for line in scores):
        raw = _score_curve(scores, "eval_raw", "AP", COLOURS[2])
        curves.append(raw._replace(name=f"{raw.name} without moving average"))
    return curves


def _score_curve(scores: Sequence[dict], section: str, name: str, colour: str) -> Curve:
    values = np.array([_number((line.get(section) or {}).get(name)) for line in scores])
    return Curve(f"{name} {values[-1]:.3f}", _steps(scores), values, colour, dots=True)


def smooth(values: Float[np.ndarray, "n"], window: int) -> Float[np.ndarray, "n"]:
    """Mean of each value and its neighbours up to window // 2 away; at the ends over those that exist."""
    kernel = np.ones(min(2 * (window // 2) + 1, 2 * len(values) - 1))
    half = len(kernel) // 2
    sums = np.convolve(np.pad(values, half), kernel, "valid")
    return sums / np.convolve(np.pad(np.ones(len(values)), half), kernel, "valid")


def _logged(lines: Sequence[dict], name: str, colour: str) -> Curve:
    return Curve(name, _steps(lines), np.array([_number(line.get(name)) for line in lines]), colour)


def _steps(lines: Sequence[dict]) -> Float[np.ndarray, "n"]:
    return np.array([line["step"] for line in lines], np.float64)


def _number(value: object) -> float:
    """nan for everything but numbers that a float can hold."""
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan
