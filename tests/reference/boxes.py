"""Boxes one pair at a time, in Python floats."""

import math

import numpy as np


def random_boxes(rng: np.random.Generator, count: int, image_hw: tuple[int, int], integer: bool = False) -> np.ndarray:
    """Proper boxes inside the image; with `integer` their corners, areas and intersections are exact in float32."""
    height, width = image_hw
    corners = rng.uniform(0, 1, (count, 2, 2)) * (width, height)
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    if integer:
        boxes = np.round(boxes)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    return boxes.astype(np.float32)


def area(box) -> float:
    x1, y1, x2, y2 = box
    return max(x2 - x1, 0.0) * max(y2 - y1, 0.0)


def iou(one, other) -> float:
    x1, y1 = max(one[0], other[0]), max(one[1], other[1])
    x2, y2 = min(one[2], other[2]), min(one[3], other[3])
    intersection = area((x1, y1, x2, y2))
    union = area(one) + area(other) - intersection
    return intersection / union if union > 0 else 0.0


def pairwise_iou(boxes, others) -> np.ndarray:
    others = np.asarray(others).tolist()
    rows = [[iou(box, other) for other in others] for box in np.asarray(boxes).tolist()]
    return np.asarray(rows, np.float32).reshape(len(boxes), len(others))


def encode(box, anchor, weights) -> list[float]:
    """(x - xa) / wa, (y - ya) / ha, log(w / wa), log(h / ha), times the weights."""
    width, height = box[2] - box[0], box[3] - box[1]
    anchor_width, anchor_height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    return [
        weights[0] * ((box[0] + box[2]) / 2 - (anchor[0] + anchor[2]) / 2) / anchor_width,
        weights[1] * ((box[1] + box[3]) / 2 - (anchor[1] + anchor[3]) / 2) / anchor_height,
        weights[2] * math.log(width / anchor_width),
        weights[3] * math.log(height / anchor_height),
    ]


def decode(deltas, anchor, weights, max_ratio) -> list[float]:
    """The box that `encode` describes; neither side grows beyond max_ratio times the anchor's."""
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x = (anchor[0] + anchor[2]) / 2 + deltas[0] / weights[0] * width
    y = (anchor[1] + anchor[3]) / 2 + deltas[1] / weights[1] * height
    width *= min(math.exp(deltas[2] / weights[2]), max_ratio)
    height *= min(math.exp(deltas[3] / weights[3]), max_ratio)
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
