"""Metrics of the challenge set: AP for each of the paper's challenges, and the positions of the Gaussian masks.

The input are COCO dictionaries, so a generated set and its exported folder give the same results. Images have
'challenge' and 'severity'; annotations have 'part_bbox' (x, y, width, height), the part that identifies the class.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from lga_jax.evaluation.coco import coco_metrics

TRUE_POSITIVE_IOU = 0.5
CROP_SIZE = 7  # cells of the paper's RoI crop; the unit of the spread for every crop size


class ChallengeAP(NamedTuple):
    """COCO AP over the images with one challenge at one severity (0 for 'plain', otherwise 1..3)."""

    challenge: str
    severity: int
    num_images: int
    ap: float  # nan without objects


class AttentionStatistics(NamedTuple):
    """Positions of the m mask centres of the true positives. Rates in [0, 1]; nan without true positives."""

    num_true_positives: int
    hit_rate: float  # share of objects with at least one of the m centres in the part's box
    chance: float  # the same for m centres drawn uniformly over the RoI
    hit_rate_per_mask: tuple[float, ...]
    chance_per_mask: float
    spread: float  # mean distance of the m centres from their mean, in cells of the 7 x 7 crop


def ap_per_challenge(ground_truth: dict, detections: list[dict]) -> list[ChallengeAP]:
    """AP of the images of each (challenge, severity): 'plain' first, then by name.

    Empty if the images have no 'challenge'.
    """
    groups = defaultdict(list)
    for image in ground_truth["images"]:
        if "challenge" in image:
            groups[image["challenge"], image["severity"]].append(image["id"])
    return [
        ChallengeAP(*group, len(groups[group]), coco_metrics(ground_truth, detections, groups[group]).summary["AP"])
        for group in sorted(groups, key=lambda group: (group[1] > 0, group))
    ]


def measure_attention(ground_truth: dict, detections: list[dict]) -> AttentionStatistics | None:
    """Hit rate, chance and spread over the true positives (IoU at least 0.5, correct class, one per object).

    None if no annotation has a 'part_bbox' or no detection has masks.
    """
    boxes = [box for box in ground_truth["annotations"] if "part_bbox" in box and not box.get("iscrowd", 0)]
    masked = [detection for detection in detections if "mask_centres" in detection]
    if not boxes or not masked:
        return None
    pairs = true_positives(boxes, masked)
    if not pairs:
        return AttentionStatistics(0, *[math.nan] * 2, (math.nan,) * len(masked[0]["mask_centres"]), *[math.nan] * 2)
    parts = np.array([box["part_bbox"] for box, _ in pairs], np.float64)
    rois = np.array([detection["roi"] for _, detection in pairs], np.float64)
    centres = np.array([detection["mask_centres"] for _, detection in pairs], np.float64)
    hits = _inside(centres, parts)
    chance = _share_of_roi(parts, rois)
    return AttentionStatistics(
        num_true_positives=len(pairs),
        hit_rate=float(hits.any(axis=1).mean()),
        chance=float(np.mean(1 - (1 - chance) ** centres.shape[1])),
        hit_rate_per_mask=tuple(hits.mean(axis=0).tolist()),
        chance_per_mask=float(chance.mean()),
        spread=float(_spread(centres, rois)),
    )


def true_positives(boxes: list[dict], detections: list[dict]) -> list[tuple[dict, dict]]:
    """Pairs (annotation, detection): in order of score, each detection takes the free object with the largest IoU."""
    free = defaultdict(list)
    for box in boxes:
        free[box["image_id"], box["category_id"]].append(box)
    pairs = []
    for detection in sorted(detections, key=lambda detection: -detection["score"]):
        candidates = free[detection["image_id"], detection["category_id"]]
        overlaps = [_iou(box["bbox"], detection["bbox"]) for box in candidates]
        if overlaps and max(overlaps) >= TRUE_POSITIVE_IOU:
            pairs.append((candidates.pop(int(np.argmax(overlaps))), detection))
    return pairs


def _iou(first: Sequence[float | int], second: Sequence[float | int]) -> float:
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    inter = max(width, 0) * max(height, 0)
    return inter / max(first[2] * first[3] + second[2] * second[3] - inter, 1e-9)


def _inside(points: Float[np.ndarray, "n m 2"], boxes_xywh: Float[np.ndarray, "n 4"]) -> Bool[np.ndarray, "n m"]:
    offsets = points - boxes_xywh[:, None, :2]
    return ((offsets >= 0) & (offsets <= boxes_xywh[:, None, 2:])).all(axis=-1)


def _share_of_roi(parts_xywh: Float[np.ndarray, "n 4"], rois_xywh: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n"]:
    """The share of each RoI's area covered by the object's part: the chance of a hit by one uniform centre."""
    low = np.maximum(parts_xywh[:, :2], rois_xywh[:, :2])
    high = np.minimum(parts_xywh[:, :2] + parts_xywh[:, 2:], rois_xywh[:, :2] + rois_xywh[:, 2:])
    area = rois_xywh[:, 2:].prod(axis=1)
    return np.maximum(high - low, 0).prod(axis=1) / np.maximum(area, 1e-9)


def _spread(centres: Float[np.ndarray, "n m 2"], rois_xywh: Float[np.ndarray, "n 4"]) -> float:
    cells = (centres - rois_xywh[:, None, :2]) / np.maximum(rois_xywh[:, None, 2:], 1e-9) * CROP_SIZE
    return float(np.linalg.norm(cells - cells.mean(axis=1, keepdims=True), axis=-1).mean())
