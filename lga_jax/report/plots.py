"""Line plots as SVG for the pages: text and axes take the colour of the page, light or dark, and stay sharp."""

import io
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from lga_jax.report.page import text

TEXT_COLOUR = "currentColor"
_WIDE = 3  # highest over lowest value of a logarithmic axis; above it the labels of 7, 8, 9 would overlap
_INK = "#010203"  # in matplotlib, for TEXT_COLOUR
COLOURS = (  # readable on white and on black
    "#2f7ed8",
    "#e8590c",
    "#2f9e44",
    "#ae3ec9",
    "#c99700",
    "#e03131",
    "#1098ad",
    "#7f6df2",
    "#868e96",
    "#b5651d",
)
_STYLE = {
    "svg.fonttype": "none",  # text stays text: browsers have fonts for every script
    "svg.hashsalt": "lga_jax",  # the same ids each time
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "font.size": 10,
}


class Curve(NamedTuple):
    """One line of a plot. nan leaves a gap."""

    name: str
    x: Float[np.ndarray, "n"]
    y: Float[np.ndarray, "n"]
    colour: str  # of CSS
    strong: bool = False  # thicker than the others
    faint: Float[np.ndarray, "n"] | None = None  # drawn behind it, for example the values before smoothing
    dots: bool = False


class Marks(NamedTuple):
    """Reference lines of a plot."""

    vertical: float | None = None
    diagonal: bool = False


def line_plot(
    title: str,
    curves: Sequence[Curve],
    labels: tuple[str, str],
    *,
    unit: tuple[bool, bool] = (False, False),
    log: bool = False,
    marks: Marks | None = None,
    note: str = "",
) -> str:
    """A plot with its title above and its legend below, as HTML. All texts are plain.

    Args:
        title: what the plot shows.
        curves: the lines; their names form the legend.
        labels: of the two axes.
        unit: whether an axis runs from 0 to 1.
        log: logarithmic values.
        marks: reference lines.
        note: a sentence below.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.4, 2.9))
        panel = figure.add_axes((0.19, 0.16, 0.79, 0.81))  # fixed: a layout that fits itself takes twice the time
        for curve in curves:
            _draw(panel, curve)
        if marks:
            _draw_marks(panel, marks)
        _set_axes(panel, labels, unit, log)
        drawing = _svg(figure)
    legend = "".join(f'<span><i style="background:{curve.colour}"></i>{text(curve.name)}</span>' for curve in curves)
    note = f'<p class="soft">{text(note)}</p>' if note else ""
    name = text(title)
    drawing = drawing.replace("<svg ", f'<svg role="img" aria-label="{name}" ', 1)
    below = f'<div class="legend">{legend}</div>{note}'
    return f'<figure class="plot"><figcaption>{name}</figcaption>{drawing}{below}</figure>'


def plots(parts: Iterable[str]) -> str:
    """Plots side by side where there is room."""
    return f'<div class="plots">{"".join(parts)}</div>'


def _draw(panel: Axes, curve: Curve) -> None:
    colour = _INK if curve.colour == TEXT_COLOUR else curve.colour
    if curve.faint is not None:
        panel.plot(curve.x, curve.faint, color=colour, alpha=0.25, linewidth=1)
    marker = "o" if curve.dots else None
    width = 2.4 if curve.strong else 1.4
    panel.plot(curve.x, curve.y, color=colour, linewidth=width, marker=marker, markersize=4)


def _draw_marks(panel: Axes, marks: Marks) -> None:
    if marks.vertical is not None and np.isfinite(marks.vertical):
        panel.axvline(marks.vertical, color=_INK, linewidth=1, linestyle="--", alpha=0.6)
    if marks.diagonal:
        panel.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle="--", alpha=0.6)


def _set_axes(panel: Axes, labels: tuple[str, str], unit: tuple[bool, bool], log: bool) -> None:
    panel.set_xlabel(labels[0])
    panel.set_ylabel(labels[1])
    panel.grid(alpha=0.15, color=_INK)
    panel.spines[["top", "right"]].set_visible(False)
    if log:
        panel.set_yscale("log")
        panel.yaxis.set_minor_formatter(_short)
        if np.divide(*panel.get_ylim()[::-1]) > _WIDE:
            panel.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    panel.yaxis.set_major_formatter(_short)
    if unit[0]:
        panel.set_xlim(0, 1.01)
        panel.xaxis.set_major_formatter(_short)
    else:
        panel.set_xlim(left=0)
    if unit[1]:
        panel.set_ylim(0, 1.03)
    elif not log:
        panel.set_ylim(bottom=0)


def _short(value: float, position: int | None) -> str:
    """The label of a tick."""
    return f"{value:g}"


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
    )
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg ") :].replace(_INK, TEXT_COLOUR)
    return re.sub(r' xmlns(:\w+)?="[^"]*"', "", drawing)  # a page needs no name spaces, and names no other place
