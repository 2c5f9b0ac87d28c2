"""The analysis of an evaluation as sections of its page."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from lga_jax.evaluation.analysis import Analysis
from lga_jax.evaluation.mistakes import KINDS
from lga_jax.report.page import cards, heat_table, histogram, table
from lga_jax.report.plots import COLOURS, TEXT_COLOUR, Curve, Marks, line_plot, plots

_MOST_CURVES = 10  # classes in one plot
_MOST_CELLS = 24  # classes of the confusion matrix


def headline(summary: dict[str, float], analysis: Analysis) -> str:
    """AP, the best threshold and the kind of error that costs most."""
    best = analysis.best
    entries = [("AP", number(summary["AP"]), f"AP50 {number(summary['AP50'])}")]
    if "segm/AP" in summary:
        entries.append(("AP of masks", number(summary["segm/AP"]), f"AP50 {number(summary['segm/AP50'])}"))
    if math.isfinite(best.threshold):
        entries += [
            ("best score threshold", f"{best.threshold:.2f}", "for the highest F1"),
            ("F1 there", f"{best.f1:.2f}", f"precision {best.precision:.2f}, recall {best.recall:.2f}"),
        ]
    kind, error = next(iter(analysis.error_kinds.items()))
    if error.ap50 > 0:
        entries.append(("costs most", kind.replace("_", " "), f"{error.ap50:.3f} of AP50"))
    return cards(entries)


def error_section(analysis: Analysis, segm: Analysis | None = None) -> str:
    """The kinds of errors with the AP50 that each costs. `segm`: by the IoU of object masks."""
    title = "AP50 that each kind of error costs, and how many there are"
    bars = _error_bars(title if segm is None else f"{title}: boxes", analysis, "box")
    bars += "" if segm is None else _error_bars("the same: object masks", segm, "mask")
    return (
        f'<h2>What goes wrong</h2><div class="tables">{bars}</div>'
        '<p class="soft">Kinds of TIDE, over detections of all scores. The costs of several kinds do not add up.</p>'
    )


def _error_bars(title: str, analysis: Analysis, shape: str) -> str:
    names = {kind: f"{kind.replace('box', shape).replace('_', ' ')}: {KINDS[kind]}" for kind in analysis.error_kinds}
    return histogram(
        title,
        {names[kind]: error.ap50 for kind, error in analysis.error_kinds.items()},
        {names[kind]: f"{error.ap50:.3f} ({error.count:,})" for kind, error in analysis.error_kinds.items()},
    )


def curve_section(analysis: Analysis, segm: Analysis | None = None) -> str:
    """Precision over recall, F1 over the threshold, and calibration. `segm`: by the IoU of object masks."""
    by_iou = [("precision and recall by IoU", analysis)]
    if segm is not None:
        by_iou.append(("precision and recall by IoU of the masks", segm))
    return plots(
        [
            *(line_plot(title, list(_curves_by_iou(some)), _PR, unit=(True, True)) for title, some in by_iou),
            line_plot(
                "precision and recall by class, IoU 0.5",
                list(_curves_by_class(analysis)),
                _PR,
                unit=(True, True),
                note=_chosen(analysis),
            ),
            line_plot(
                "F1 over the score threshold",
                list(_f1_curves(analysis)),
                ("score threshold", "F1"),
                unit=(True, True),
                marks=Marks(vertical=analysis.best.threshold),
                note="Dashed: the best threshold for all classes together.",
            ),
            line_plot(
                "calibration",
                [_calibration_curve(analysis)],
                ("mean score", "share of correct detections"),
                unit=(True, True),
                marks=Marks(diagonal=True),
                note=f"On the dashed line a score is the probability of a correct detection. Mean distance from it: "
                f"{analysis.calibration_error:.3f}.",
            ),
        ]
    )


def confusion_section(analysis: Analysis) -> str:
    """The confusion matrix at the best threshold, and its most frequent confusions."""
    names = [*analysis.class_names, "nothing"]
    matrix = analysis.confusion
    errors = matrix.sum(0) + matrix.sum(1) - 2 * matrix.diagonal()
    shown = sorted(np.argsort(-errors[:-1], kind="stable")[:_MOST_CELLS].tolist())
    left_out = len(names) - 1 - len(shown)
    note = f" The {left_out} classes with the fewest errors are left out." if left_out else ""
    places = [*shown, len(names) - 1]
    heat = heat_table(
        f"detections with a score of at least {threshold_of(analysis):.2f}, IoU 0.5",
        "object ↓, detected as →",
        [names[place] for place in places],
        [(names[place], matrix[place, places].tolist()) for place in places],
    )
    pairs = table("most frequent confusions", [], list(_confusions(analysis)))
    return (
        f'<h2>Confusions</h2><div class="tables">{heat}{pairs}</div><p class="soft">Row "nothing": detections without '
        f'an object. Column "nothing": objects without a detection.{note}</p>'
    )


def class_table(
    per_class: dict[str, float], analysis: Analysis, more: Sequence[tuple[str, Sequence[float]]] = ()
) -> str:
    """Scores and the best threshold of each class. `more`: columns, each a name and a score for each class."""
    rows = []
    for label, name in enumerate(analysis.class_names):
        best, objects = analysis.best_of_class[label], analysis.num_objects[label]
        values = (per_class[name], analysis.ap50[label], best.f1, best.precision, best.recall)
        cells = [f"{objects:,}", *map(number, values), number(best.threshold)[:4]]
        rows.append((name, cells + [number(column[label]) for _, column in more]))
    head = ["", "objects", *_COLUMNS, *(column for column, _ in more)]
    return table("per class, at its best threshold", head, rows)


def threshold_of(analysis: Analysis) -> float:
    """The threshold of pictures and of the confusion matrix: the best, or 0.5 if no detection is correct."""
    return analysis.best.threshold if math.isfinite(analysis.best.threshold) else 0.5


def number(value: float | None) -> str:
    """A score with three digits; a dash for nan."""
    if value is None:
        return ""
    return "–" if math.isnan(value) else f"{value:.3f}"


_PR = ("recall", "precision")
_COLUMNS = ("AP", "AP50", "F1", "precision", "recall", "threshold")


def _curves_by_iou(analysis: Analysis) -> Iterator[Curve]:
    """Mean over the classes with objects, at every second IoU."""
    usable = np.isfinite(analysis.precision[0, 0])
    if usable.any():
        for place, colour in zip(range(0, len(analysis.ious), 2), COLOURS, strict=False):
            mean = analysis.precision[place][:, usable].mean(1)
            name = f"IoU {analysis.ious[place]:.2f}: AP {mean.mean():.3f}"
            yield Curve(name, analysis.recalls, mean, colour, strong=place == 0)


def _shown_classes(analysis: Analysis) -> list[int]:
    """The classes of a plot: those with objects and the lowest AP50, in their order."""
    labels = [label for label, count in enumerate(analysis.num_objects) if count]
    return sorted(sorted(labels, key=lambda label: analysis.ap50[label])[:_MOST_CURVES])


def _chosen(analysis: Analysis) -> str:
    some, all_ = len(_shown_classes(analysis)), sum(count > 0 for count in analysis.num_objects)
    return f"The {some} of {all_} classes with the lowest AP50." if some < all_ else ""


def _curves_by_class(analysis: Analysis) -> Iterator[Curve]:
    for label, colour in zip(_shown_classes(analysis), COLOURS, strict=False):
        name = f"{analysis.class_names[label]}: {analysis.ap50[label]:.3f}"
        yield Curve(name, analysis.recalls, analysis.precision[0, :, label], colour)


def _f1_curves(analysis: Analysis) -> Iterator[Curve]:
    sweep, labels = analysis.sweep, _shown_classes(analysis)
    for label, colour in zip(labels, COLOURS, strict=False):
        best = analysis.best_of_class[label]
        where = f" at {best.threshold:.2f}" if math.isfinite(best.threshold) else ""
        name = f"{analysis.class_names[label]}: {number(best.f1)}{where}"
        yield Curve(name, sweep.thresholds, sweep.f1[label], colour)
    if len(labels) > 1:
        usable = [label for label, count in enumerate(analysis.num_objects) if count]
        yield Curve("mean of all classes", sweep.thresholds, sweep.f1[usable].mean(0), TEXT_COLOUR, strong=True)


def _calibration_curve(analysis: Analysis) -> Curve:
    filled = [entry for entry in analysis.bins if entry.count]
    points = np.array([(entry.mean_score, entry.precision) for entry in filled], np.float64).reshape(-1, 2)
    return Curve("detections in intervals of 0.1", points[:, 0], points[:, 1], COLOURS[0], dots=True)


def _confusions(analysis: Analysis) -> Iterator[tuple[str, list[str]]]:
    """The eight most frequent pairs of different classes."""
    pairs = analysis.confusion[:-1, :-1].copy()
    np.fill_diagonal(pairs, 0)
    totals = analysis.confusion[:-1].sum(1)
    for place in np.argsort(-pairs, axis=None, kind="stable")[:8].tolist():
        real, called = divmod(place, len(pairs))
        if pairs[real, called]:
            names = f"{analysis.class_names[real]} detected as {analysis.class_names[called]}"
            yield names, [f"{pairs[real, called]} of {totals[real]}"]
