"""Greedy non-maximum suppression, as everybody describes it."""

import numpy as np

from tests.reference.boxes import iou


def greedy_nms(boxes, scores, iou_threshold, classes=None) -> np.ndarray:
    """Takes the best box left, drops what overlaps it, and so on. Equal scores: the earlier box first."""
    boxes, keep = np.asarray(boxes).tolist(), np.zeros(len(boxes), bool)
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if scores[i] == -np.inf:
            continue
        rivals = [j for j in np.flatnonzero(keep) if classes is None or classes[j] == classes[i]]
        keep[i] = all(np.float32(iou(boxes[i], boxes[j])) <= np.float32(iou_threshold) for j in rivals)
    return keep
