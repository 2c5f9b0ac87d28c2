"""Buckets with little padding, and anchors with the shapes of the objects."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

MULTIPLE = 32  # sides of buckets; the coarsest stride of a backbone
_MOST_BUCKETS = 3  # each takes a minute to compile on a CPU
_LEAST_SAVING = 0.03  # of the pixels of an epoch, for one bucket more
_FEW = 0.02  # share of images that a bucket must hold; fewer are reduced to fit another one
_MOST_BOXES = 20_000  # for the overlaps with anchors
_LEAST_GAIN = 0.02  # of the mean IoU, for other sizes or ratios than usual

NUM_LEVELS = 5
RATIOS = (0.5, 1.0, 2.0)
WIDE_RATIOS = (0.2, 0.5, 1.0, 2.0, 5.0)
_BASES = tuple(round(8 * 2 ** (step / 2)) for step in range(6))  # size on the finest level, 8 to 45 pixels


def up_to_multiple(side: float) -> int:
    """The next multiple of 32."""
    return math.ceil(side / MULTIPLE) * MULTIPLE


def choose_buckets(sizes: Int[np.ndarray, "n 2"]) -> list[tuple[int, int]]:
    """At most three (height, width) that hold nearly all images of these sizes with little padding.

    Starts with one bucket for all, and adds the bucket that saves most pixels while it saves enough.
    """
    different, counts = np.unique(-(-sizes // MULTIPLE) * MULTIPLE, axis=0, return_counts=True)
    chosen = [tuple(different.max(axis=0).tolist())]
    while len(chosen) < _MOST_BUCKETS:
        areas = [_area([*chosen, tuple(one)], different, counts) for one in different.tolist()]
        best = int(np.argmin(areas))
        if areas[best] > (1 - _LEAST_SAVING) * _area(chosen, different, counts):
            break
        chosen.append(tuple(different[best].tolist()))
    used = np.bincount(_smallest(chosen, different), counts, minlength=len(chosen)) > _FEW * len(sizes)
    return sorted(bucket for bucket, is_used in zip(chosen, used, strict=True) if is_used)


def _area(buckets: Sequence[tuple[int, int]], sizes: Int[np.ndarray, "n 2"], counts: Int[np.ndarray, "n"]) -> int:
    areas = np.prod(buckets, axis=1)
    return int(areas[_smallest(buckets, sizes)] @ counts)


def _smallest(buckets: Sequence[tuple[int, int]], sizes: Int[np.ndarray, "n 2"]) -> Int[np.ndarray, "n"]:
    """The bucket with the fewest pixels that holds each size; the first bucket holds all."""
    fits: Bool[np.ndarray, "n q"] = (sizes[:, None] <= np.array(buckets)[None]).all(axis=2)
    return np.where(fits, np.prod(buckets, axis=1), np.iinfo(np.int64).max).argmin(axis=1)


def choose_anchors(
    box_hw: Float[np.ndarray, "n 2"], weights: Float[np.ndarray, "n"], usual: float
) -> tuple[tuple[int, ...], tuple[float, ...], float, float]:
    """Sizes per level and ratios (height / width) of anchors for objects of these shapes, in pixels of the network.

    Sizes double from level to level. `usual`: the finest size of the recipe, kept unless another one is clearly better.
    Returns also the mean IoU of the objects with the anchor of the best shape at their place: with the usual anchors,
    and with the chosen ones.
    """
    if len(box_hw) > _MOST_BOXES:
        kept = np.random.default_rng(0).choice(len(box_hw), _MOST_BOXES, replace=False)
        box_hw, weights = box_hw[kept], weights[kept]
    before = _mean_iou(box_hw, weights, usual, RATIOS)
    found = {base: _mean_iou(box_hw, weights, base, RATIOS) for base in _BASES}
    # Of nearly equal ones the nearest to the usual: twice a size often means the same anchors one level earlier.
    good = [base for base in _BASES if found[base] > max(found.values()) - _LEAST_GAIN / 4]
    base = min(good, key=lambda base: abs(math.log(base / usual)))
    if found[base] < before + _LEAST_GAIN:
        base = round(usual)
    after = {ratios: _mean_iou(box_hw, weights, base, ratios) for ratios in (RATIOS, WIDE_RATIOS)}
    ratios = WIDE_RATIOS if after[WIDE_RATIOS] > after[RATIOS] + _LEAST_GAIN else RATIOS
    return tuple(base * 2**level for level in range(NUM_LEVELS)), ratios, before, after[ratios]


def _mean_iou(
    box_hw: Float[np.ndarray, "n 2"], weights: Float[np.ndarray, "n"], base: float, ratios: Sequence[float]
) -> float:
    sizes = base * 2.0 ** np.arange(NUM_LEVELS)
    roots = np.sqrt(ratios)
    anchor_hw = np.stack([np.outer(sizes, roots), np.outer(sizes, 1 / roots)], axis=-1).reshape(-1, 2)
    common = np.minimum(box_hw[:, None], anchor_hw[None]).prod(axis=2)
    best = (common / (box_hw.prod(axis=1)[:, None] + anchor_hw.prod(axis=1)[None] - common)).max(axis=1)
    return float(best @ weights / weights.sum())
