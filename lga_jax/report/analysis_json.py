"""The analysis of an evaluation as content of metrics.json and curves.json."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from lga_jax.evaluation.analysis import Analysis
from lga_jax.evaluation.mistakes import image_costs

_MOST = 100  # mistakes, images and label errors that are listed


def analysis_json(analysis: Analysis, truth: Mapping[str, Any], detections: Sequence[Mapping]) -> dict[str, Any]:
    """The entry 'analysis' of metrics.json; nan becomes null when it is written."""
    names = {category["id"]: category["name"] for category in truth["categories"]}

    def described(entry: Any) -> dict[str, Any]:
        found = None if entry.detection is None else detections[entry.detection]
        real = None if entry.annotation is None else truth["annotations"][entry.annotation]
        boxes = {"detection": found, "object": real}
        return {
            "kind": entry.kind,
            "image_id": entry.image_id,
            **{key: box and {"class": names[box["category_id"]], "bbox": box["bbox"]} for key, box in boxes.items()},
            "score": found and found["score"],
        }

    return {
        "best_threshold": analysis.best._asdict(),
        "best_threshold_per_class": _by_class(analysis, [best._asdict() for best in analysis.best_of_class]),
        "objects_per_class": _by_class(analysis, analysis.num_objects),
        "AP50_per_class": _by_class(analysis, analysis.ap50),
        "error_kinds": {name: kind._asdict() for name, kind in analysis.error_kinds.items()},
        "confusion": {"classes": [*analysis.class_names, None], "matrix": analysis.confusion.tolist()},
        "calibration": {"error": analysis.calibration_error, "bins": [entry._asdict() for entry in analysis.bins]},
        "mistakes": [described(mistake) | {"cost": mistake.cost} for mistake in analysis.mistakes[:_MOST]],
        "images": [
            {"image_id": image_id, "cost": cost}
            for image_id, cost in islice(image_costs(analysis.mistakes).items(), _MOST)
        ],
        "label_errors": [described(error) for error in analysis.label_errors[:_MOST]],
    }


def curves_json(analysis: Analysis) -> dict[str, Any]:
    """The content of curves.json: precision over recall for each class and IoU, and F1 over the score threshold."""
    sweep = analysis.sweep
    precision = np.moveaxis(analysis.precision, 2, 0).round(4)
    return {
        "recall": analysis.recalls.round(4).tolist(),
        "iou": analysis.ious.round(4).tolist(),
        "precision": _by_class(analysis, precision.tolist()),  # of each class: [IoU][recall]
        "threshold": sweep.thresholds.round(4).tolist(),
        "f1": _by_class(analysis, sweep.f1.round(4).tolist()),
    }


def _by_class(analysis: Analysis, values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(analysis.class_names, values, strict=True))
