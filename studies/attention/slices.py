"""AP of a part of the objects: by occlusion, by size, and of two classes against each other.

A detection belongs to the object of any class that it overlaps most, with an IoU of at least 0.1. A slice has some of
the objects and the detections that belong to them. Detections of background belong to no slice, so the AP of slices is
higher than that of the whole set.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from hotcoco import mask
from jaxtyping import Bool, Float, Int

from lga_jax.evaluation.coco import coco_metrics
from lga_jax.evaluation.mistakes import BACKGROUND_IOU

OCCLUDED = 0.3  # IoU with another object
NOTHING = -1


def slices(truth: dict, detections: list[dict]) -> dict[str, dict[str, dict[str, Any]]]:
    """AP and number of objects of each slice, by kind of slice: "occlusion", "size" and "pair"."""
    objects = truth["annotations"]
    owners = owner_of(objects, detections)
    chosen = {"occlusion": by_occlusion(objects), "size": by_size(objects)}
    found = {
        kind: {name: _ap(truth, detections, owners, kept) for name, kept in parts.items()}
        for kind, parts in chosen.items()
    }
    return found | {"pair": _pairs(truth, detections, owners)}


def owner_of(objects: Sequence[dict], detections: Sequence[dict]) -> Int[np.ndarray, "d"]:
    """The position of the object that each detection belongs to; NOTHING for background."""
    of_image = _by_image(objects)
    owners = np.full(len(detections), NOTHING)
    for image_id, positions in _by_image(detections).items():
        candidates = of_image.get(image_id)
        if candidates:
            overlaps = _ious([detections[i] for i in positions], [objects[i] for i in candidates])
            best = np.array(candidates)[overlaps.argmax(axis=1)]
            owners[positions] = np.where(overlaps.max(axis=1) >= BACKGROUND_IOU, best, NOTHING)
    return owners


def by_occlusion(objects: Sequence[dict]) -> dict[str, Bool[np.ndarray, "n"]]:
    """Objects by their largest IoU with another object of the image."""
    largest = np.zeros(len(objects))
    for positions in _by_image(objects).values():
        own = [objects[i] for i in positions]
        largest[positions] = (_ious(own, own) - np.eye(len(own))).max(axis=1).clip(0)
    return {
        "none": largest == 0,
        f"below {OCCLUDED:g}": (largest > 0) & (largest < OCCLUDED),
        f"from {OCCLUDED:g}": largest >= OCCLUDED,
    }


def by_size(objects: Sequence[dict]) -> dict[str, Bool[np.ndarray, "n"]]:
    """The smallest, middle and largest third of the objects by the area of their boxes."""
    areas = np.array([box["bbox"][2] * box["bbox"][3] for box in objects])
    thirds = np.empty(len(areas), int)
    thirds[areas.argsort(kind="stable")] = np.arange(len(areas)) * 3 // max(len(areas), 1)
    return {name: thirds == third for third, name in enumerate(("small", "middle", "large"))}


def _pairs(truth: dict, detections: list[dict], owners: Int[np.ndarray, "d"]) -> dict[str, dict[str, Any]]:
    """The objects of two classes, and their detections as one of the two: only confusions of the two lower the AP."""
    labels = np.array([box["category_id"] for box in truth["annotations"]])
    named = np.array([detection["category_id"] for detection in detections])
    found = {}
    for first, second in combinations(truth["categories"], 2):
        pair = [first["id"], second["id"]]
        as_pair = np.where(np.isin(named, pair), owners, NOTHING)
        found[f"{first['name']}/{second['name']}"] = _ap(truth, detections, as_pair, np.isin(labels, pair))
    return found


def _ap(
    truth: dict, detections: list[dict], owners: Int[np.ndarray, "d"], kept: Bool[np.ndarray, "n"]
) -> dict[str, Any]:
    """`kept`: the objects of the slice. AP is None without objects."""
    own = [detection for detection, owner in zip(detections, owners, strict=True) if owner != NOTHING and kept[owner]]
    objects = [box for box, keep in zip(truth["annotations"], kept, strict=True) if keep]
    if not objects:
        return {"objects": 0, "AP": None}
    images = {box["image_id"] for box in objects}
    part = truth | {"images": [i for i in truth["images"] if i["id"] in images], "annotations": objects}
    return {"objects": len(objects), "AP": round(coco_metrics(part, own).summary["AP"], 5)}


def _by_image(boxes: Sequence[dict]) -> dict[Any, list[int]]:
    positions = defaultdict(list)
    for position, box in enumerate(boxes):
        positions[box["image_id"]].append(position)
    return positions


def _ious(first: Sequence[dict], second: Sequence[dict]) -> Float[np.ndarray, "n m"]:
    return np.asarray(mask.iou([box["bbox"] for box in first], [box["bbox"] for box in second], [0] * len(second)))
