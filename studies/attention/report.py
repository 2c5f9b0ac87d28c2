"""Tables and plots of a study from its runs.jsonl.

    python -m studies.attention.report --workdir runs/study --output docs/images --markdown runs/study/report.md

Differences are relative to `none`, and of `lga` relative to each row, per seed. There are two 95 % intervals: the
paired t interval of a row's differences, wide with few seeds; and an interval with the spread pooled over all rows
(rows and seeds as a two-way layout without interaction), which assumes the same spread for all rows. They are not
corrected for the number of rows: among thirty rows without effect, one or two are expected outside. "Code" is the start
of a digest of the library and the study at training time; several digests mean several versions.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from lga_jax.terminal import safe_output
from studies.attention.comparison import (
    BASELINE,
    Runs,
    differences,
    interval,
    latest,
    mean_and_half,
    mean_and_spread,
    table_row,
)
from studies.attention.report_measures import measure_tables, plot_errors, power_table
from studies.attention.rows import ROWS
from studies.attention.workdir import key_of, read_measures, read_runs

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Ellipse

REFERENCE = "lga"  # the row that is compared with all others
MASK_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")  # Okabe, Ito


def main_table(runs: Runs) -> str:
    gains = differences(runs, lambda run: run["AP"])
    leads = differences(runs, lambda run: -run["AP"], REFERENCE)  # lga - row instead of row - lga
    heads = ["row", "what it is", "seeds", "AP", "AP50", "against none", "paired interval", "pooled interval"]
    heads += [f"`{REFERENCE}` ahead by", "its paired interval", "images/CPU s", "code"]
    lines = [table_row(*heads), "|---" * len(heads) + "|"]
    for row, own in runs.items():
        gain, lead = gains.get(row), leads.get(row)
        lines.append(
            table_row(
                f"`{row}`",
                ROWS[row].text if row in ROWS else "a form that is no longer in the code",
                len(own),
                mean_and_spread([run["AP"] for run in own.values()]),
                mean_and_spread([run["AP50"] for run in own.values()]),
                f"{gain.mean:+.4f}" if gain else "",
                interval(gain.mean, gain.paired) if gain else "",
                interval(gain.mean, gain.pooled) if gain else "",
                f"{lead.mean:+.4f}" if lead else "",
                interval(lead.mean, lead.paired) if lead else "",
                f"{statistics.median(run['images_per_cpu_second'] for run in own.values()):.1f}",
                ", ".join(dict.fromkeys(run["versions"]["code"][:6] for run in own.values())),
            )
        )
    return "\n".join(lines)


def attention_table(runs: Runs) -> str:
    """Means over the seeds; the best mask is chosen per run."""
    heads = ["row", "any mask hits", "of another object", "by chance", "best mask hits", "of another object"]
    heads += ["by chance", "mean of all masks", "spread", "moves"]
    lines = [table_row(*heads), "|---" * len(heads) + "|"]
    for row, own in runs.items():
        found = [run["attention"] for run in own.values() if run["attention"]]
        if not found or "hit_rate" not in found[0]:
            continue
        best = [one["hit_rate_per_mask"].index(max(one["hit_rate_per_mask"])) for one in found]
        elsewhere = [one["hit_rate_elsewhere_per_mask"][mask] for one, mask in zip(found, best, strict=True)]
        lines.append(
            table_row(
                f"`{row}`",
                mean_and_spread([one["hit_rate"] for one in found], 3),
                f"{_mean(found, 'hit_rate_elsewhere'):.3f}",
                f"{_mean(found, 'chance'):.3f}",
                mean_and_spread([max(one["hit_rate_per_mask"]) for one in found], 3),
                f"{statistics.mean(elsewhere):.3f}",
                f"{_mean(found, 'chance_per_mask'):.3f}",
                f"{statistics.mean(statistics.mean(one['hit_rate_per_mask']) for one in found):.3f}",
                mean_and_spread([one["spread"] for one in found], 2),
                f"{statistics.mean(statistics.mean(one['moves']) for one in found):.2f}",
            )
        )
    return "\n".join(lines) if len(lines) > 2 else ""


def challenge_table(runs: Runs, by_severity: bool) -> str:
    """AP per challenge, and severity or mean of its severities.

    For `none` its AP; for others the difference to it over the common seeds, and the half width of the paired interval.
    """
    measured = [
        (entry["challenge"], entry["severity"])
        for own in list(runs.values())[:1]
        for entry in next(iter(own.values()))["challenges"]
    ]
    if not measured or BASELINE not in runs:
        return ""
    columns: dict[str, list[tuple[str, int]]] = {}
    for challenge, severity in measured:
        name = challenge.replace("_", " ") + (f" {severity}" if severity and by_severity else "")
        columns.setdefault(name, []).append((challenge, severity))

    def ap(column: list[tuple[str, int]]) -> Callable[[dict], float]:
        return lambda run: statistics.mean(
            entry["ap"] for entry in run["challenges"] if (entry["challenge"], entry["severity"]) in column
        )

    lines = [table_row("row", *columns), "|---" * (len(columns) + 1) + "|"]
    base = [statistics.mean(map(ap(column), runs[BASELINE].values())) for column in columns.values()]
    lines.append(table_row(f"`{BASELINE}`", *(f"{value:.3f}" for value in base)))
    gains = [differences(runs, ap(column)) for column in columns.values()]
    for row in gains[0]:
        lines.append(table_row(f"`{row}`", *(mean_and_half(gain[row]) for gain in gains)))
    return "\n".join(lines)


def class_table(runs: Runs) -> str:
    """Hit rate of any mask by class, mean over the seeds."""
    rows = {
        row: [run["attention"]["hit_rate_per_class"] for run in own.values() if run["attention"]]
        for row, own in runs.items()
        if all("hit_rate_per_class" in (run["attention"] or {}) for run in own.values())
    }
    names = sorted({name for found in rows.values() for one in found for name in one})
    if not names:
        return ""
    lines = [table_row("row", *(name.replace("_", " ") for name in names)), "|---" * (len(names) + 1) + "|"]
    for row, found in rows.items():
        values = [[one[name] for one in found if name in one] for name in names]
        lines.append(table_row(f"`{row}`", *(f"{statistics.mean(v):.2f}" if v else "" for v in values)))
    return "\n".join(lines)


def tables(runs: Runs, measured: Runs, data: str) -> str:
    """`measured`: the lines of measures.jsonl, by row and seed; may be empty."""
    parts = [
        ("AP; in brackets the standard deviation over seeds", main_table(runs)),
        (
            "Where masks look (`auxiliary`: the middle of the RoI): hit rates; spread and moves in cells of 7",
            attention_table(runs),
        ),
        (
            "AP by challenge; below none the differences to it with half of their paired intervals",
            challenge_table(runs, by_severity=False),
        ),
        ("The same by severity", challenge_table(runs, by_severity=True)),
        ("Hit rate of any mask by class", class_table(runs)),
        ("Seeds that a paired test needs for a difference of AP, with a power of 80 %", power_table(runs)),
        *measure_tables(measured),
    ]
    return "\n\n".join([f"## {data}", *(f"{title}:\n\n{table}" for title, table in parts if table)])


def plot_differences(runs: Runs, data: str, path: Path) -> None:
    gains = sorted(differences(runs, lambda run: run["AP"]).items(), key=lambda item: item[1].mean)
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.28 * len(gains)), layout="constrained")
    for place, (_, gain) in enumerate(gains):
        if not math.isnan(gain.pooled):
            axes.plot([gain.mean - gain.pooled, gain.mean + gain.pooled], [place] * 2, color="#0072B2", lw=2)
        axes.scatter(gain.each, [place] * len(gain.each), color="#999999", s=9, zorder=3)
        axes.scatter([gain.mean], [place], color="#0072B2", s=32, zorder=4)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(range(len(gains)), [row for row, _ in gains])
    axes.set_xlabel("AP against none, seed by seed\n(grey: each seed; bar: 95 %, pooled over rows)")
    axes.set_title(f"{data}: what each form of attention adds")
    axes.grid(axis="x", alpha=0.3)
    _save(figure, path)


def plot_hits(runs: Runs, data: str, path: Path) -> None:
    points = []
    for row, own in runs.items():
        found = [run["attention"] for run in own.values() if run["attention"]]
        if found and "hit_rate" in found[0] and len(found[0]["hit_rate_per_mask"]) > 1:
            above = statistics.mean(one["hit_rate"] - one["hit_rate_elsewhere"] for one in found)
            points.append((row, _mean(found, "spread"), above))
    if not points:
        return
    figure, axes = plt.subplots(figsize=(8, 5.5), layout="constrained")
    axes.axhline(0, color="black", lw=0.8)
    placed: list[tuple[float, float]] = []
    for row, x, y in sorted(points, key=lambda point: point[2]):
        axes.scatter([x], [y], color="#D55E00" if row.startswith("lga") else "#0072B2", s=30)
        at = y
        while any(abs(x - other) < 0.7 and at - below < 0.025 for other, below in placed):
            at += 0.005  # names of neighbours are stacked
        placed.append((x, at))
        line = dict(arrowstyle="-", color="#999999", lw=0.5)
        axes.annotate(row, (x, y), xytext=(x + 0.04, at), fontsize=8, va="center", arrowprops=line if at > y else None)
    axes.margins(x=0.15)  # space for names
    axes.set_xlabel("spread of the centres, cells of 7 (small: one place)")
    axes.set_ylabel("any mask hits the part: rate minus the rate of another object's masks")
    axes.set_title(f"{data}: do the masks stay apart, and do they find the part?")
    axes.grid(alpha=0.3)
    _save(figure, path)


def plot_movement(runs: Runs, data: str, path: Path) -> None:
    """The mean centre of each mask during training, for the first seed: ring at the start, dot and sigma at the end."""
    traces = [(row, own[min(own)]["trace"]) for row, own in runs.items() if own[min(own)]["trace"]]
    if not traces:
        return
    columns = min(6, len(traces))
    lines = -(-len(traces) // columns)
    figure, grid = plt.subplots(
        lines, columns, figsize=(max(1.9 * columns, 6), 2.1 * lines + 0.3), layout="constrained", squeeze=False
    )
    for axes, (row, trace) in zip(grid.flat, traces, strict=False):
        centres = np.array([entry["centres"] for entry in trace])  # [time, m, 2]
        for mask in range(centres.shape[1]):
            colour = MASK_COLOURS[mask % len(MASK_COLOURS)]
            axes.plot(*centres[:, mask].T, color=colour, lw=1)
            axes.scatter(*centres[0, mask], s=22, facecolors="none", edgecolors=colour)
            axes.scatter(*centres[-1, mask], s=22, color=colour)
            width, height = (2 * sigma for sigma in trace[-1]["sigmas"][mask])
            axes.add_patch(Ellipse(centres[-1, mask], width, height, fill=False, color=colour, alpha=0.35))
        axes.set(xlim=(0, 7), ylim=(7, 0), xticks=range(8), yticks=range(8), aspect="equal")
        axes.set_title(row, fontsize=8)
        axes.tick_params(labelbottom=False, labelleft=False, length=0)
        axes.grid(alpha=0.25)
    for axes in list(grid.flat)[len(traces) :]:
        axes.axis("off")
    figure.suptitle(f"{data}: how the masks' centres move (mean over fixed true boxes)", fontsize=10)
    _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _mean(found: Sequence[Mapping[str, Any]], name: str) -> float:
    return statistics.mean(one[name] for one in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/study"), help="workdir of studies.attention.study")
    parser.add_argument(
        "--seeds", type=lambda text: {int(seed) for seed in text.split(",")}, help="use only these seeds"
    )
    parser.add_argument("--output", type=Path, help="folder for the plots; none without it")
    parser.add_argument("--markdown", type=Path, help="file for the tables; printed without it")
    given = parser.parse_args()
    runs = [run for run in read_runs(given.workdir) if not given.seeds or run["seed"] in given.seeds]
    if not runs:
        parser.error(f"--workdir: expected finished runs of these seeds, found none in {given.workdir}; run the study")
    keys, measures, text = {key_of(run) for run in runs}, read_measures(given.workdir), []
    for data in dict.fromkeys(run["data"] for run in runs):
        own = latest(runs, data)
        measured = latest([one for one in measures if key_of(one) in keys], data)
        text.append(tables(own, measured, data))
        if given.output:
            plot_differences(own, data, given.output / f"study_{data}_differences.png")
            plot_hits(own, data, given.output / f"study_{data}_hits.png")
            plot_movement(own, data, given.output / f"study_{data}_movement.png")
            if measured:
                plot_errors(measured, data, given.output / f"study_{data}_errors.png")
    if given.markdown:
        given.markdown.parent.mkdir(parents=True, exist_ok=True)
        given.markdown.write_text("\n\n".join(text) + "\n")
    else:
        print("\n\n".join(text))


if __name__ == "__main__":
    with safe_output():
        main()
