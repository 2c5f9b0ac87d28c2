"""Loss and AP over the steps of a run, from its metrics.jsonl."""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_LOSSES = {
    "total": "#111827",
    "rpn_objectness": "#2563eb",
    "rpn_box": "#60a5fa",
    "roi_class": "#dc2626",
    "roi_box": "#f97316",
    "guide": "#16a34a",
}
_SMOOTHING_POINTS = 60  # a curve is smoothed over as many of its points that about this many remain


def read_metrics(path: Path) -> list[dict]:
    """The lines of a metrics.jsonl; a last line that is not finished yet is left out. Empty without a file."""
    lines = []
    for text in path.read_text().splitlines() if path.is_file() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def draw_curves(metrics: Sequence[dict]) -> bytes | None:
    """`curves_figure` as a PNG."""
    figure = curves_figure(metrics)
    if figure is None:
        return None
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def curves_figure(metrics: Sequence[dict]) -> Figure | None:
    """The losses (faint: as logged, strong: smoothed), and AP and AP50 if there were evaluations.

    None without a line to draw.
    """
    losses = [line for line in metrics if "total" in line]
    scores = [line for line in metrics if "eval" in line]
    if not losses and not scores:
        return None
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    panels = figure.subplots(1, bool(losses) + bool(scores), squeeze=False)[0].tolist()
    if losses:
        _draw_losses(panels[0], losses)
    if scores:
        _draw_scores(panels[-1], scores)
    for panel in panels:
        panel.set_xlabel("step")
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlim(left=0)
        panel.legend(frameon=False, fontsize=8, ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    return figure


def smooth(values: Float[np.ndarray, "n"], window: int) -> Float[np.ndarray, "n"]:
    """Mean of each value and its neighbours up to window // 2 away; at the ends over those that exist."""
    kernel = np.ones(min(2 * (window // 2) + 1, 2 * len(values) - 1))
    half = len(kernel) // 2
    sums = np.convolve(np.pad(values, half), kernel, "valid")
    return sums / np.convolve(np.pad(np.ones(len(values)), half), kernel, "valid")


def _draw_losses(panel: Axes, losses: Sequence[dict]) -> None:
    steps = np.array([line["step"] for line in losses])
    for name, colour in _LOSSES.items():
        if name in losses[0]:
            values = np.array([line.get(name, math.nan) for line in losses], np.float64)
            panel.plot(steps, values, color=colour, alpha=0.18, linewidth=1)
            smoothed = smooth(values, len(values) // _SMOOTHING_POINTS)
            panel.plot(steps, smoothed, color=colour, label=name, linewidth=2 if name == "total" else 1.4)
    panel.set_title("training loss")
    panel.set_ylim(bottom=0)


def _draw_scores(panel: Axes, scores: Sequence[dict]) -> None:
    steps = [line["step"] for line in scores]
    for name, colour in (("AP50", "#9ca3af"), ("AP", "#111827")):
        values = [math.nan if line["eval"][name] is None else line["eval"][name] for line in scores]
        panel.plot(steps, values, color=colour, marker="o", markersize=4, label=f"{name} {values[-1]:.3f}")
    panel.set_title("evaluation")
    panel.set_ylim(0, 1.03)
