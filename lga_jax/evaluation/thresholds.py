"""Precision, recall and F1 over the score threshold, and the threshold with the best F1.

F1 is the harmonic mean of precision and recall, 2 TP / (detections + objects). A low threshold finds more objects, a
high one makes fewer errors; at the best F1 the two balance.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

GRID = np.arange(1, 100) / 100


class Sweep(NamedTuple):
    """Values of each class at each threshold, in [0, 1]. nan: recall and F1 of a class without objects; precision
    without detections.
    """

    thresholds: Float[np.ndarray, "n"]
    precision: Float[np.ndarray, "k n"]
    recall: Float[np.ndarray, "k n"]
    f1: Float[np.ndarray, "k n"]


class Best(NamedTuple):
    """A threshold and what it gives; nan without objects or detections."""

    threshold: float
    f1: float
    precision: float
    recall: float


def sweep(
    scores: Float[np.ndarray, "d"],
    correct: Bool[np.ndarray, "d"],
    labels: Int[np.ndarray, "d"],
    num_objects: Int[np.ndarray, "k"],
) -> Sweep:
    """Keeps the detections with at least each threshold, and compares them with the objects.

    Args:
        scores: scores of all detections.
        correct: whether each is matched with an object.
        labels: class of each, 0..k-1.
        num_objects: objects of each class.
    """
    # Below the lowest score nothing changes, and the evaluation has left out detections with lower scores.
    thresholds = GRID[np.floor(100 * scores.min(initial=1.0)) / 100 <= GRID] if scores.min(initial=1.0) < 1 else GRID
    found, right = (
        np.stack([_at_least(scores[chosen & (labels == k)], thresholds) for k in range(len(num_objects))])
        for chosen in (np.ones_like(correct), correct)
    )
    objects = np.where(num_objects > 0, num_objects, np.nan)[:, None]
    with np.errstate(invalid="ignore"):
        precision = np.where(found > 0, right / np.maximum(found, 1), np.nan)
    return Sweep(thresholds, precision, right / objects, 2 * right / (found + objects))


def best_of_class(result: Sweep, label: int) -> Best:
    """The best threshold of one class."""
    return _best(result.thresholds, result.f1[label], result.precision[label], result.recall[label])


def best_overall(result: Sweep) -> Best:
    """The threshold with the best mean F1 over the classes with objects, as AP is a mean over them."""
    means = [_mean_of_classes(values) for values in (result.f1, result.precision, result.recall)]
    return _best(result.thresholds, *means)


def _best(
    thresholds: Float[np.ndarray, "n"],
    f1: Float[np.ndarray, "n"],
    precision: Float[np.ndarray, "n"],
    recall: Float[np.ndarray, "n"],
) -> Best:
    """The middle of the longest run of thresholds with the best F1: small changes of scores have no effect there."""
    if not np.nanmax(f1, initial=0.0) > 0:
        return Best(*[np.nan] * 4)
    places = np.flatnonzero(f1 == np.nanmax(f1))
    longest = max(np.split(places, np.flatnonzero(np.diff(places) > 1) + 1), key=len)
    middle = longest[len(longest) // 2]
    return Best(*(float(values[middle]) for values in (thresholds, f1, precision, recall)))


def _at_least(scores: Float[np.ndarray, "d"], thresholds: Float[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """The number of scores that are at least each threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")


def _mean_of_classes(values: Float[np.ndarray, "k n"]) -> Float[np.ndarray, "n"]:
    """The mean over the classes with a number; nan without one."""
    counted = np.isfinite(values)
    return np.where(counted.any(0), np.where(counted, values, 0).sum(0) / np.maximum(counted.sum(0), 1), np.nan)
