"""Line plots as SVG for the pages: text and axes take the colour of the page, light or dark, and stay sharp.

matplotlib chooses the ticks. It does not draw: that takes 25 ms for a plot (here 0.6) and 0.2 s for the import, too
much beside the evaluation of a small set (benchmarks/RESULTS.md).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.ticker import LogLocator, MaxNLocator

from lga_jax.report.page import text

TEXT_COLOUR = "currentColor"
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
_SIZE = (316.8, 208.8)  # of a drawing
_LEFT, _RIGHT, _TOP, _BOTTOM = 60.2, 310.46, 6.26, 175.39  # of its panel, y downwards
_MARGIN = 0.05  # of the range of the values, between the last one and the end of an axis
_UNIT, _UNIT_TICKS = (0.0, 1.02), (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_NARROW, _WIDE = (
    3,
    1000,
)  # highest over lowest value of a logarithmic axis: up to it each digit, and 1, 2, 5, have ticks


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


class _Axis(NamedTuple):
    """Maps values to coordinates of the drawing."""

    limits: tuple[float, float]
    ends: tuple[float, float]  # coordinates of the limits
    log: bool
    ticks: Sequence[float]

    def places(self, values: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """Coordinates; values beyond a limit are drawn at it, nan stays."""
        kept = np.clip(values, *self.limits)
        (low, high), kept = (np.log10(self.limits), np.log10(kept)) if self.log else (self.limits, kept)
        return self.ends[0] + (kept - low) / (high - low) * (self.ends[1] - self.ends[0])


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
    across = _axis([curve.x for curve in curves], (_LEFT, _RIGHT), unit[0])
    up = _axis([curve.y for curve in curves], (_BOTTOM, _TOP), unit[1], log)
    lines = "".join([*map(partial(_line, across, up), curves), *_marks(across, up, marks or Marks())])
    legend = "".join(f'<span><i style="background:{curve.colour}"></i>{text(curve.name)}</span>' for curve in curves)
    note = f'<p class="soft">{text(note)}</p>' if note else ""
    name = text(title)
    size = f'viewBox="0 0 {_SIZE[0]} {_SIZE[1]}"'
    drawing = f'<svg role="img" aria-label="{name}" {size}>{_axes(across, up, labels)}{lines}</svg>'
    below = f'<div class="legend">{legend}</div>{note}'
    return f'<figure class="plot"><figcaption>{name}</figcaption>{drawing}{below}</figure>'


def plots(parts: Iterable[str]) -> str:
    """Plots side by side where there is room."""
    return f'<div class="plots">{"".join(parts)}</div>'


def _axis(values: Sequence[Float[np.ndarray, "_"]], ends: tuple[float, float], unit: bool, log: bool = False) -> _Axis:
    """An axis from 0 to 1, or from 0 or the lowest logarithm to a little more than the highest value."""
    found = np.concatenate([*values, np.zeros(0)])
    found = found[np.isfinite(found) & ((found > 0) | (not log))]
    if unit:
        return _Axis(_UNIT, ends, False, _UNIT_TICKS)
    if log:
        low, high = (found.min(), found.max()) if len(found) else (1.0, 10.0)
        room = max(high / low, 1.5) ** _MARGIN
        limits = (low / room, high * room)
        ticks = _log_locator(limits[1] / limits[0]).tick_values(*limits)
    else:
        high = max(found.max(initial=0.0), 0.0) or 1.0
        limits = (0.0, high * (1 + _MARGIN))
        ticks = MaxNLocator(6, steps=(1, 2, 2.5, 5, 10)).tick_values(*limits)
    return _Axis(limits, ends, log, [tick for tick in ticks.tolist() if limits[0] <= tick <= limits[1]])


def _log_locator(ratio: float) -> LogLocator:
    return LogLocator(subs=range(1, 10) if ratio <= _NARROW else (1, 2, 5) if ratio <= _WIDE else (1,))


def _axes(across: _Axis, up: _Axis, labels: tuple[str, str]) -> str:
    """Both axes, a grid, and the texts."""
    x_ticks, y_ticks = (axis.places(np.array(axis.ticks)).round(2).tolist() for axis in (across, up))
    grid = [f"M{x} {_TOP}V{_BOTTOM}" for x in x_ticks] + [f"M{_LEFT} {y}H{_RIGHT}" for y in y_ticks]
    short = [f"M{x} {_BOTTOM}v3.5" for x in x_ticks] + [f"M{_LEFT} {y}h-3.5" for y in y_ticks]
    texts = [_text(x, _BOTTOM + 14, f"{tick:g}") for x, tick in zip(x_ticks, across.ticks, strict=True)]
    texts += [_text(_LEFT - 7, y + 3.5, f"{tick:g}", "end") for y, tick in zip(y_ticks, up.ticks, strict=True)]
    texts += [_text((_LEFT + _RIGHT) / 2, _SIZE[1] - 6, labels[0])]
    texts += [_text(-(_TOP + _BOTTOM) / 2, 12, labels[1], extra=' transform="rotate(-90)"')]
    frame = _path(f"M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}{''.join(short)}", TEXT_COLOUR, 0.8)
    return _path("".join(grid), TEXT_COLOUR, 0.8, "stroke-opacity: 0.15") + frame + "".join(texts)


def _text(x: float, y: float, words: str, anchor: str = "middle", extra: str = "") -> str:
    style = f"fill: {TEXT_COLOUR}; font-size: 10px; text-anchor: {anchor}"
    return f'<text x="{x:.2f}" y="{y:.2f}"{extra} style="{style}">{text(words)}</text>'


def _line(across: _Axis, up: _Axis, curve: Curve) -> str:
    points = partial(_points, across.places(curve.x))
    drawn = points(up.places(curve.y))
    parts = [_path(drawn, curve.colour, 2.4 if curve.strong else 1.4)]
    if curve.faint is not None:
        parts.insert(0, _path(points(up.places(curve.faint)), curve.colour, 1, "stroke-opacity: 0.25"))
    if curve.dots:  # lines of length 0 with round ends
        parts.append(_path(re.sub(r"[ML]([^ML]*)", r"M\1h0", drawn), curve.colour, 4.5, "stroke-linecap: round"))
    return "".join(parts)


def _points(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> str:
    """The line through points as SVG's path; nan leaves a gap. Of many points, lowest and highest of each half unit."""
    columns = np.floor(2 * x)
    starts = np.flatnonzero(np.diff(columns, prepend=-1))
    if len(x) > 4 * len(starts):
        x = np.repeat(x[starts], 2)
        y = np.stack([np.fmin.reduceat(y, starts), np.fmax.reduceat(y, starts)], axis=1).ravel()
    usable = np.isfinite(x) & np.isfinite(y)
    after = np.append(False, usable)[:-1]
    pairs = zip(x.tolist(), y.tolist(), usable.tolist(), after.tolist(), strict=True)
    return "".join(
        f"{'L' if joined else 'M'}{left:.2f} {top:.2f}" for left, top, is_usable, joined in pairs if is_usable
    )


def _marks(across: _Axis, up: _Axis, marks: Marks) -> Iterator[str]:
    dashed = "stroke-opacity: 0.6; stroke-dasharray: 3.7 1.6"
    if marks.vertical is not None and np.isfinite(marks.vertical):
        place = across.places(np.array([marks.vertical]))[0]
        yield _path(f"M{place:.2f} {_BOTTOM}V{_TOP}", TEXT_COLOUR, 1, dashed)
    if marks.diagonal:
        ends = np.array([0.0, 1.0])
        yield _path(_points(across.places(ends), up.places(ends)), TEXT_COLOUR, 1, dashed)


def _path(points: str, colour: str, width: float, extra: str = "stroke-linejoin: round") -> str:
    return f'<path d="{points}" style="fill: none; stroke: {colour}; stroke-width: {width}; {extra}"/>'
