"""Differences between the rows of a study over their common seeds, their intervals, and how many seeds they need."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from studies.attention.rows import ROWS

BASELINE = "none"
CONFIDENCE = 0.95
POWER = 0.8
Runs = Mapping[str, Mapping[int, dict]]  # by row, then seed


class Difference(NamedTuple):
    """Difference of a row to the baseline, over their common seeds."""

    mean: float
    each: list[float]
    paired: float  # half width of the paired t interval; nan with one seed
    pooled: float  # half width with the pooled spread; nan with one seed or without other rows


def latest(runs: Sequence[dict], data: str) -> dict[str, dict[int, dict]]:
    """The runs of a data set by row and seed, in the study's order of rows."""
    found: dict[str, dict[int, dict]] = {}
    for run in runs:
        if run["data"] == data:
            found.setdefault(run["row"], {})[run["seed"]] = run
    order = list(ROWS)
    return dict(sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))


def differences(runs: Runs, value: Callable[[dict], float], baseline: str = BASELINE) -> dict[str, Difference]:
    """Differences of all other rows to the baseline; empty without the baseline."""
    if baseline not in runs:
        return {}
    pooled = _pooled_half_width(runs, value)
    found = {}
    for row, own in runs.items():
        seeds = sorted(own.keys() & runs[baseline].keys())
        each = [value(own[seed]) - value(runs[baseline][seed]) for seed in seeds]
        if row == baseline or not each:
            continue
        count = len(each)
        paired = math.nan
        if count > 1:
            paired = _t(count - 1) * statistics.stdev(each) / math.sqrt(count)
        found[row] = Difference(statistics.mean(each), each, paired, pooled(count))
    return found


def _pooled_half_width(runs: Runs, value: Callable[[dict], float]) -> Callable[[int], float]:
    """Half width for a difference of two rows with `count` seeds, from the residuals of rows and seeds.

    Rows and seeds are fitted by least squares to all runs, so rows may have different seeds.
    """
    cells = [(row, seed, value(run)) for row, own in runs.items() for seed, run in own.items()]
    rows, seeds = ([*dict.fromkeys(names)] for names in list(zip(*cells, strict=True))[:2])
    design = np.zeros((len(cells), len(rows) + len(seeds)))
    for line, (row, seed, _) in enumerate(cells):
        design[line, rows.index(row)] = design[line, len(rows) + seeds.index(seed)] = 1.0
    measured = np.array([cell[2] for cell in cells])
    effects, _, rank, _ = np.linalg.lstsq(design, measured)
    freedom = len(cells) - int(rank)
    if freedom < 1:
        return lambda count: math.nan
    spread = math.sqrt(((measured - design @ effects) ** 2).sum() / freedom)
    return lambda count: _t(freedom) * spread * math.sqrt(2 / count)


def _t(freedom: int) -> float:
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom))


def seeds_needed(spread: float, difference: float) -> int:
    """The seeds with which a paired t test finds a true difference with a chance of POWER.

    `spread`: standard deviation of the differences of single seeds. At least 2.
    """
    count = 2
    while _power(count, spread, difference) < POWER:
        count += 1
    return count


def _power(count: int, spread: float, difference: float) -> float:
    shift, limit = difference / spread * math.sqrt(count), _t(count - 1)
    return float(stats.nct.sf(limit, count - 1, shift) + stats.nct.cdf(-limit, count - 1, shift))


def mean_and_spread(values: Sequence[float], digits: int = 4) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ({statistics.stdev(values):.{digits}f})" if len(values) > 1 else mean


def mean_and_half(gain: Difference) -> str:
    return f"{gain.mean:+.3f}" + ("" if math.isnan(gain.paired) else f" ± {gain.paired:.3f}")


def interval(mean: float, half: float) -> str:
    return "" if math.isnan(half) else f"{mean - half:+.4f} to {mean + half:+.4f}"


def table_row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
