"""The matcher of Faster R-CNN, one box at a time."""

import numpy as np

from tests.reference.boxes import pairwise_iou


def match(boxes, truth, truth_valid, *, positive_iou, negative_iou, low_quality):
    """(matched, iou, positive, negative) per box; `matched` is meaningful where anything is valid."""
    slots = [slot for slot in range(len(truth)) if truth_valid[slot]]
    overlap = pairwise_iou(boxes, truth)
    matched, best = np.zeros(len(boxes), int), np.zeros(len(boxes), np.float32)
    for box in range(len(boxes)):
        if slots:
            matched[box] = max(slots, key=lambda slot: overlap[box, slot])  # the first of equals
            best[box] = overlap[box, matched[box]]
    positive = best >= positive_iou
    if low_quality:
        for slot in slots:
            highest = overlap[:, slot].max()
            if highest > 0:
                positive |= overlap[:, slot] == highest
    negative = (best < negative_iou) & ~positive
    return matched, best, positive, negative
