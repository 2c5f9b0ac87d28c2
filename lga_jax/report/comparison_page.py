"""A comparison of runs as text for the terminal, as one HTML file, and as JSON."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lga_jax.errors import counted
from lga_jax.evaluation.analysis import Analysis
from lga_jax.evaluation.bootstrap import Interval, is_clear
from lga_jax.evaluation.comparison import Comparison, Scores
from lga_jax.files import null_for_nan, write_atomically, write_json
from lga_jax.report.curves import read_metrics
from lga_jax.report.page import page, table, text
from lga_jax.report.plots import COLOURS, Curve, line_plot, plots
from lga_jax.terminal import cell

_NAME, _COLUMN = 24, 26  # columns of the terminal
_LETTERS = "ABCDEFGHIJ"
MOST_RUNS = len(_LETTERS)


def format_comparison(comparison: Comparison) -> str:
    """The scores with their intervals, and the differences to the first run."""
    lines = [*_legend(comparison), "", *_lines(comparison, _value_cells, "score")]
    lines += ["", *_lines(comparison, _difference_cells, "difference to A"), "", _NOTE]
    return "\n".join(lines)


def write_comparison(comparison: Comparison, workdirs: Sequence[Path], output: str) -> list[Path]:
    """Writes comparison.html and comparison.json into an existing folder. `workdirs`: with metrics.jsonl for curves.

    Raises WriteError.
    """
    html_path, json_path = Path(output, "comparison.html"), Path(output, "comparison.json")
    logs = [read_metrics(workdir / "metrics.jsonl") for workdir in workdirs]
    write_atomically(html_path, comparison_html(comparison, logs).encode())
    write_json(json_path, null_for_nan(comparison_json(comparison)), indent=2)
    return [html_path, json_path]


def comparison_html(comparison: Comparison, logs: Sequence[Sequence[dict]]) -> str:
    """The page. `logs`: the lines of each run's metrics.jsonl; empty without one."""
    scores = [
        table("score and 95 % interval", ["", *_letters(comparison)], _rows(comparison, _value_cells)),
        table("difference to A", ["", *_letters(comparison)[1:]], _rows(comparison, _difference_cells)),
    ]
    recipes = [
        (key, ["" if value is None else str(value) for value in values]) for key, values in comparison.recipes.items()
    ]
    legend = "".join(f"<li>{text(line)}</li>" for line in _legend(comparison)[1:])
    sections = [
        "<h1>Comparison</h1>",
        f'<p class="soft">{text(_legend(comparison)[0])}</p><ul>{legend}</ul>',
        f'<div class="tables">{"".join(scores)}</div>',
        f'<p class="soft">{text(_NOTE)}</p>',
        "<h2>Curves</h2>",
        plots([*_score_plots(comparison), *_training_plots(comparison, logs)]),
        "<h2>Differences of the recipes</h2>",
        f'<div class="tables">{table("", ["key", *_letters(comparison)], recipes)}</div>'
        if recipes
        else "<p>None.</p>",
    ]
    return page("Comparison", sections)


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The content of comparison.json."""

    def entries(values: Mapping[str, Interval]) -> dict[str, Any]:
        return {name: interval._asdict() for name, interval in values.items()}

    return {
        "num_images": comparison.num_images,
        "num_samples": comparison.num_samples,
        "runs": [
            {
                "name": run.name,
                "step": run.step,
                "scores": entries(run.values),
                "differences": entries(run.differences),
                "best_threshold": run.analysis.best._asdict(),
                "error_kinds": _error_kinds(run.analysis),
                "segm_error_kinds": run.segm_analysis and _error_kinds(run.segm_analysis),
            }
            for run in comparison.runs
        ],
        "recipes": comparison.recipes,
    }


def _error_kinds(analysis: Analysis) -> dict[str, Any]:
    return {name: kind._asdict() for name, kind in analysis.error_kinds.items()}


_NOTE = (
    "A star: the interval excludes zero. Intervals are over other images of the same kind; all runs share the "
    "bootstrap samples. They do not contain the variation between training seeds."
)


def _letters(comparison: Comparison) -> list[str]:
    return list(_LETTERS[: len(comparison.runs)])


def _legend(comparison: Comparison) -> list[str]:
    first = f"{counted(comparison.num_images, 'image')}, {counted(comparison.num_samples, 'bootstrap sample')}"
    named = zip(_letters(comparison), comparison.runs, strict=True)
    return [first, *(f"{letter}: {run.name}, step {run.step:,}" for letter, run in named)]


def _value_cells(comparison: Comparison, name: str) -> list[str]:
    return [_shown(run.values[name], "") for run in comparison.runs]


def _difference_cells(comparison: Comparison, name: str) -> list[str]:
    return [
        _shown(run.differences[name], "+") + (" *" if is_clear(run.differences[name]) else "")
        for run in comparison.runs[1:]
    ]


def _shown(interval: Interval, sign: str) -> str:
    if math.isnan(interval.value):
        return "–"
    return f"{interval.value:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def _rows(comparison: Comparison, cells: Any) -> list[tuple[str, list[str]]]:
    return [(name, cells(comparison, name)) for name in comparison.runs[0].values]


def _lines(comparison: Comparison, cells: Any, title: str) -> Iterator[str]:
    letters = _letters(comparison) if cells is _value_cells else _letters(comparison)[1:]
    yield f"{title:<{_NAME + 2}}" + "".join(f"{letter:<{_COLUMN}}" for letter in letters)
    for name, values in _rows(comparison, cells):
        yield f"  {cell(name, _NAME)}" + "".join(f"{value:<{_COLUMN}}" for value in values).rstrip()


def _score_plots(comparison: Comparison) -> Iterator[str]:
    for place, iou in ((0, 0.5), (5, 0.75)):
        yield _precision_plot(comparison, f"precision and recall, IoU {iou:g}", place, lambda run: run.analysis)
    if comparison.runs[0].segm_analysis:
        yield _precision_plot(comparison, "precision and recall of masks, IoU 0.5", 0, lambda run: run.segm_analysis)
    curves = [
        Curve(
            f"{name}: best at {run.analysis.best.threshold:.2f}",
            run.analysis.sweep.thresholds,
            _mean_of_classes(run.analysis, run.analysis.sweep.f1),
            colour,
        )
        for name, run, colour in _named(comparison)
    ]
    yield line_plot("F1 over the score threshold", curves, ("score threshold", "F1"), unit=(True, True))


def _precision_plot(comparison: Comparison, title: str, place: int, of: Callable[[Scores], Analysis]) -> str:
    """`place`: of the IoU among COCO's."""
    curves = [
        Curve(name, of(run).recalls, _mean_of_classes(of(run), of(run).precision[place].T), colour)
        for name, run, colour in _named(comparison)
    ]
    return line_plot(title, curves, ("recall", "precision"), unit=(True, True), note="Mean of the classes.")


def _training_plots(comparison: Comparison, logs: Sequence[Sequence[dict]]) -> Iterator[str]:
    """Loss and AP of the runs that have a log."""
    panels = (
        ("total loss while training", "loss", lambda line: line.get("total"), (False, False)),
        ("AP while training", "AP", lambda line: line.get("eval", {}).get("AP"), (False, True)),
    )
    for title, label, value, unit in panels:
        curves = []
        for (name, _, colour), log in zip(_named(comparison), logs, strict=True):
            points = [(line["step"], value(line)) for line in log if value(line) is not None]
            if points:
                steps, values = np.array(points, np.float64).T
                curves.append(Curve(name, steps, values, colour, dots=label == "AP"))
        if curves:
            yield line_plot(title, curves, ("step", label), unit=unit)


def _named(comparison: Comparison) -> Iterator[tuple[str, Scores, str]]:
    for letter, run, colour in zip(_LETTERS, comparison.runs, COLOURS, strict=False):
        yield f"{letter} {run.name}", run, colour


def _mean_of_classes(analysis: Analysis, values: np.ndarray) -> np.ndarray:
    """The mean over the classes with objects; `values` are [classes, points]."""
    usable = np.array(analysis.num_objects) > 0
    return values[usable].mean(0) if usable.any() else np.full(values.shape[1], np.nan)
