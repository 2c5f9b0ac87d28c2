"""LVIS's average precision (Gupta, Dollár and Girshick 2019), computed by hotcoco.

A detection counts only if its class is verified in its image: it has a box there, or stands in the negative list. If
not all objects of the class have a box, a detection without one is ignored.
"""

import contextlib
import io

import hotcoco

from lga_jax.data.federated import has_lists
from lga_jax.evaluation.coco import CocoMetrics, as_datasets, coco_metrics, in_order, nan_for_nothing, per_class

MAX_DETECTIONS = 300  # per image, those with the highest scores
# hotcoco's names of the metrics, and ours
NAMES = {
    "AP": "AP",
    "AP50": "AP50",
    "AP75": "AP75",
    "APs": "AP_small",
    "APm": "AP_medium",
    "APl": "AP_large",
    "APr": "AP_rare",  # classes in 1 to 10 images of the training set
    "APc": "AP_common",  # 11 to 100
    "APf": "AP_frequent",
    "AR@300": "AR_300",
    "ARs@300": "AR_small",
    "ARm@300": "AR_medium",
    "ARl@300": "AR_large",
}


def metrics(ground_truth: dict, detections: list[dict], kind: str = "bbox") -> CocoMetrics:
    """LVIS's metrics if the images have lists of verified classes, COCO's otherwise; arguments of `coco_metrics`."""
    return (lvis_metrics if has_lists(ground_truth) else coco_metrics)(ground_truth, detections, kind=kind)


def lvis_metrics(ground_truth: dict, detections: list[dict], *, kind: str = "bbox") -> CocoMetrics:
    """LVIS's thirteen numbers, by the names in NAMES, and the AP of each class.

    The `frequency` of the categories, "r", "c" or "f", is their group in AP_rare, AP_common and AP_frequent; without
    it, these are nan.
    """
    image_ids = in_order(image["id"] for image in ground_truth["images"])
    truth, found = as_datasets(ground_truth, detections, image_ids, kind)
    truth = hotcoco.COCO(truth)
    evaluation = hotcoco.COCOeval(truth, hotcoco.LVISResults(truth, found["annotations"], MAX_DETECTIONS), kind, True)
    evaluation.evaluate()
    evaluation.accumulate()
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    found = evaluation.get_results()
    summary = {ours: nan_for_nothing(found.get(name, -1.0)) for name, ours in NAMES.items()}
    return CocoMetrics(summary, per_class(evaluation, ground_truth["categories"]))
