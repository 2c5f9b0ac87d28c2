"""Tables and a plot of the measures of measure.py: kinds of errors, slices, the worth of each mask; and the power."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from studies.attention.comparison import (
    BASELINE,
    Runs,
    differences,
    mean_and_half,
    mean_and_spread,
    seeds_needed,
    table_row,
)

mpl.use("Agg")
import matplotlib.pyplot as plt

PAIRS = 6  # pairs of classes in the table, the most confused ones of the baseline
WORTH = 0.002  # AP; a mask that is worth it works
CLAIMS = (0.01, 0.02, 0.03)  # AP
KINDS = ("wrong_class", "wrong_class_poor_box", "poor_box", "background", "duplicate", "missed")
Titled = list[tuple[str, str]]  # title and table


def measure_tables(measured: Runs) -> Titled:
    """Tables of the measures by row and seed; those without content are left out."""
    if not measured:
        return []
    half = "below none the differences to it with half of their paired intervals"
    tables = [
        (
            "Kinds of errors: AP50 that they cost; share of the missing AP50 that confusions of classes cost",
            errors_table,
        ),
        (f"AP by occlusion and size; {half}", slices_table),
        (f"AP between two classes, the pairs that none confuses most; {half}", pairs_table),
        (
            f"Masks: AP lost without each, without all; worth at least {WORTH}; share of objects they decide",
            masks_table,
        ),
        (
            "Heat maps of the centres: cells they cover; share far from the peak; peaks in a corner; distances, cells",
            heat_maps_table,
        ),
    ]
    return [(title, text) for title, table in tables if (text := table(measured))]


def errors_table(measured: Runs) -> str:
    lines = _head("row", "seeds", "AP50", *(kind.replace("_", " ") for kind in KINDS), "share of confusions")
    for row, own in measured.items():
        runs = list(own.values())
        costs = [statistics.mean(run["errors"][kind]["ap50"] for run in runs) for kind in KINDS]
        lines.append(
            table_row(
                f"`{row}`",
                len(runs),
                mean_and_spread([run["AP50"] for run in runs], 3),
                *(f"{cost:.3f}" for cost in costs),
                mean_and_spread([run["confusion_share"] for run in runs], 2),
            )
        )
    return "\n".join(lines)


def slices_table(measured: Runs) -> str:
    kinds = ("occlusion", "size")
    return _table_of_slices(measured, [(kind, name) for kind in kinds for name in _first(measured)["slices"][kind]])


def pairs_table(measured: Runs) -> str:
    confused = _mean_by_name([run["confused"] for run in measured.get(BASELINE, {}).values()])
    return _table_of_slices(measured, [("pair", name) for name in sorted(confused, key=lambda n: -confused[n])[:PAIRS]])


def _table_of_slices(measured: Runs, slices: Sequence[tuple[str, str]]) -> str:
    """AP of the baseline and the differences of the other rows to it, for the slices with objects."""
    found = _first(measured)["slices"]
    slices = [(kind, name) for kind, name in slices if found[kind][name]["objects"]]
    if BASELINE not in measured or not slices:
        return ""
    heads = [
        f"{name if kind == 'pair' else f'{kind} {name}'} ({found[kind][name]['objects']})" for kind, name in slices
    ]
    lines = _head("row", *heads)
    values = [_slice_ap(kind, name) for kind, name in slices]
    base = [statistics.mean(map(value, measured[BASELINE].values())) for value in values]
    lines.append(table_row(f"`{BASELINE}`", *(f"{ap:.3f}" for ap in base)))
    gains = [differences(measured, value) for value in values]
    lines += [table_row(f"`{row}`", *(mean_and_half(gain[row]) for gain in gains)) for row in gains[0]]
    return "\n".join(lines)


def _slice_ap(kind: str, name: str) -> Callable[[dict], float]:
    return lambda run: run["slices"][kind][name]["AP"]


def masks_table(measured: Runs) -> str:
    lines = _head("row", "lost without each mask", "without all", "masks that work", "decide")
    for row, own in measured.items():
        masks = [run["masks"] for run in own.values() if "masks" in run]
        if masks:
            lines.append(
                table_row(
                    f"`{row}`",
                    ", ".join(f"{worth:+.3f}" for worth in _means([one["worth"] for one in masks])),
                    mean_and_spread([one["worth_of_all"] for one in masks], 3),
                    f"{statistics.mean(sum(w >= WORTH for w in one['worth']) for one in masks):.1f}",
                    ", ".join(f"{share:.2f}" for share in _means([one["decides"] for one in masks])),
                )
            )
    return "\n".join(lines) if len(lines) > 2 else ""


def heat_maps_table(measured: Runs) -> str:
    names = ("cells", "far", "in_corner", "peak_to_centre", "centre_to_middle")
    lines = _head("row", "seeds", *(name.replace("_", " ") for name in names))
    for row, own in measured.items():
        found = [run["heat_maps"] for run in own.values() if "heat_maps" in run]
        if found:
            means = [statistics.mean(value for one in found for value in one[name]) for name in names]
            lines.append(table_row(f"`{row}`", len(found), *(f"{mean:.2f}" for mean in means)))
    return "\n".join(lines) if len(lines) > 2 else ""


def power_table(runs: Runs) -> str:
    """The spread of the differences to the baseline, and the seeds that a claim needs, by row; empty with one seed."""
    lines = _head("row", "seeds", "standard deviation", *(f"seeds for {claim:g}" for claim in CLAIMS))
    for row, gain in differences(runs, lambda run: run["AP"]).items():
        if len(gain.each) > 2 and (spread := statistics.stdev(gain.each)) > 0:
            needed = [seeds_needed(spread, claim) for claim in CLAIMS]
            lines.append(table_row(f"`{row}`", len(gain.each), f"{spread:.3f}", *needed))
    return "\n".join(lines) if len(lines) > 2 else ""


def plot_errors(measured: Runs, data: str, path: Path) -> None:
    """The AP50 that each kind of error costs, stacked by row."""
    figure, axes = plt.subplots(figsize=(8, 1.4 + 0.35 * len(measured)), layout="constrained")
    rows, left = list(measured), [0.0] * len(measured)
    colours = ("#0072B2", "#56B4E9", "#D55E00", "#009E73", "#E69F00", "#CC79A7")  # Okabe, Ito
    for kind, colour in zip(KINDS, colours, strict=True):
        cost = [statistics.mean(run["errors"][kind]["ap50"] for run in measured[row].values()) for row in rows]
        axes.barh(rows, cost, left=left, color=colour, label=kind.replace("_", " "))
        left = [a + b for a, b in zip(left, cost, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("AP50 that the errors of each kind cost (the kinds do not add up exactly)")
    axes.set_title(f"{data}: which errors there are")
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _head(*names: str) -> list[str]:
    return [table_row(*names), "|---" * len(names) + "|"]


def _first(measured: Runs) -> dict[str, Any]:
    return next(iter(next(iter(measured.values())).values()))


def _means(lists: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.mean(values) for values in zip(*lists, strict=True)]


def _mean_by_name(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.mean(one[name] for one in found) for name in found[0]} if found else {}
