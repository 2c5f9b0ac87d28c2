"""When a run stops because its evaluations do not become better."""

import math
from collections.abc import Mapping


def num_without_gain(values: Mapping[int, float], *, larger_is_better: bool) -> int:
    """The number of evaluations after the best one; nan is never better. `values`: step -> score."""
    sign = 1 if larger_is_better else -1
    best, since = -math.inf, 0
    for _, value in sorted(values.items()):
        since += 1
        if sign * value > best:
            best, since = sign * value, 0
    return since


def has_stalled(patience: int, metric: str, scores: Mapping[int, float], losses: Mapping[int, float]) -> bool:
    """Whether the last `patience` evaluations brought no better value.

    Args:
        patience: number of evaluations; 0: never stalls.
        metric: "AP" or "loss".
        scores, losses: step -> AP, and step -> total loss on the evaluation images.
    """
    if not patience:
        return False
    values = scores if metric == "AP" else losses
    return num_without_gain(values, larger_is_better=metric == "AP") >= patience
