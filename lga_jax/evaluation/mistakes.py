"""Single mistakes of a detector, ordered by the AP that each of them costs.

The cost of a mistake is the gain of AP50, as a mean over the classes, if this mistake alone were not made: a false
detection is removed; a missed object is found with the score of the threshold. AP is here the area under the precision
without interpolation, sum over true positives of (TP_i / i) / G with i detections of at least the same score and G
objects, so the costs are sums that need one pass. Costs of several mistakes do not add up exactly.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from hotcoco import mask
from jaxtyping import Bool, Float, Int

Shape = Sequence[float] | Mapping[str, Any]  # a box (x, y, width, height), or a mask as compressed RLE
POSITIVE_IOU = 0.5
BACKGROUND_IOU = 0.1

KINDS = {  # TIDE's kinds of errors, in the order of its decision
    "poor_box": f"an object of its class, IoU {BACKGROUND_IOU:g} to {POSITIVE_IOU:g}",
    "wrong_class": f"an object of another class, IoU at least {POSITIVE_IOU:g}",
    "duplicate": "an object that another detection has found",
    "background": f"no object, IoU below {BACKGROUND_IOU:g} with all",
    "wrong_class_poor_box": f"an object of another class, IoU {BACKGROUND_IOU:g} to {POSITIVE_IOU:g}",
    "missed": "an object without a detection",
}


class Mistake(NamedTuple):
    """A false detection or a missed object."""

    kind: str  # a key of KINDS
    cost: float  # AP50
    image_id: int | str
    detection: int | None  # position in the detections; None: the object has no detection
    annotation: int | None  # position in the annotations of the object, or of the object that the detection overlaps


def cost_of_false(correct: Bool[np.ndarray, "d"], num_objects: int) -> Float[np.ndarray, "d"]:
    """What each false detection of one class costs; 0 for correct ones. Highest score first."""
    rank, hits = np.arange(1, len(correct) + 1), np.cumsum(correct)
    # Without a detection above it, a true positive at rank i has the precision TP_i / (i - 1) instead of TP_i / i.
    gains = np.where(correct & (rank > 1), hits / np.maximum(rank * (rank - 1), 1), 0.0)
    below = np.cumsum(gains[::-1])[::-1] - gains
    return np.where(correct, 0.0, below) / max(num_objects, 1)


def cost_of_missed(correct: Bool[np.ndarray, "d"], num_objects: int, num_kept: int) -> Float[np.ndarray, "_"]:
    """What it costs that an object of one class is found at each rank after the threshold; last entry: not found.

    Args:
        correct: whether each detection is correct, highest score first.
        num_objects: objects of the class.
        num_kept: the number of detections with at least the threshold.
    """
    rank, hits = np.arange(1, len(correct) + 1), np.cumsum(correct)
    gains = np.where(correct, (hits + 1) / (rank + 1) - hits / rank, 0.0)
    between = np.concatenate([[0.0], np.cumsum(gains)])  # gains of all ranks before each place
    at_threshold = ((hits[num_kept - 1] if num_kept else 0) + 1) / (num_kept + 1)
    own = np.append(np.where(correct, hits / rank, 0.0), 0.0)
    return (at_threshold - own + between - between[num_kept]) / max(num_objects, 1)


def kind_of(shape: Shape, label: int, objects: Sequence[Shape], labels: Int[np.ndarray, "n"]) -> tuple[str, int | None]:
    """The kind of a false detection and the position of the object that it overlaps, None for background.

    Args:
        shape, label: the detection.
        objects, labels: the objects of its image without crowds, as boxes or as masks like the detection.
    """
    if not len(objects):
        return "background", None
    plain = [dict(one) if isinstance(one, Mapping) else list(one) for one in (shape, *objects)]
    overlaps = np.asarray(mask.iou(plain[:1], plain[1:], [0] * len(objects)))[0]
    same, other = (np.where(chosen, overlaps, 0.0) for chosen in (labels == label, labels != label))
    if BACKGROUND_IOU <= same.max() < POSITIVE_IOU:
        return "poor_box", int(same.argmax())
    if other.max() >= POSITIVE_IOU:
        return "wrong_class", int(other.argmax())
    if same.max() >= POSITIVE_IOU:
        return "duplicate", int(same.argmax())
    return ("background", None) if other.max() < BACKGROUND_IOU else ("wrong_class_poor_box", int(other.argmax()))


def image_costs(mistakes: Sequence[Mistake]) -> dict[int | str, float]:
    """The sum of the costs of each image, highest first."""
    costs: dict[int | str, float] = defaultdict(float)
    for mistake in mistakes:
        costs[mistake.image_id] += mistake.cost
    return dict(sorted(costs.items(), key=lambda entry: -entry[1]))
