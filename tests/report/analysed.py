"""A small set of pictures with known mistakes, and its evaluation."""

import numpy as np

from lga_jax.evaluation.analysis import analyse
from lga_jax.evaluation.coco import coco_metrics
from lga_jax.evaluation.evaluate import EvalResult
from tests.evaluation.test_analysis import known_set, with_rectangles

NAMES = ("起重机 <hook>", "رادار")


class Photos:
    """Two bright images with the objects of `known_set`."""

    class_names, report, fingerprint = NAMES, (), ""
    records = tuple(type("Record", (), {"image_id": i, "height": 200, "width": 200}) for i in (4, 1))

    def image(self, index):
        return np.full((200, 200, 3), 250 - 5 * index, np.uint8)

    def truth(self):
        truth = known_set()[0]
        categories = [category | {"name": name} for category, name in zip(truth["categories"], NAMES, strict=True)]
        return truth | {"categories": categories, "images": [{"id": 4, "file_name": "four.jpg"}, {"id": 1}]}


def evaluated():
    """The result of the evaluation; the best threshold is 0.2."""
    detections = known_set()[1]
    detections[0]["score"] = 0.75
    truth = Photos().truth()
    metrics = coco_metrics(truth, detections)
    analysis = analyse(truth, detections)
    return EvalResult(metrics.summary, metrics.per_class, detections, 2, 0, [], None, analysis)


def evaluated_masks():
    """The same with object masks: the boxes, but a third of the first cat."""
    result = evaluated()
    truth, detections = with_rectangles(
        Photos().truth(), result.detections, lambda number, box: [*box[:2], 14, 40] if number == 0 else box
    )
    metrics = coco_metrics(truth, detections, kind="segm")
    return result._replace(
        summary=result.summary | {f"segm/{name}": value for name, value in metrics.summary.items()},
        detections=detections,
        segm_per_class=metrics.per_class,
        segm_analysis=analyse(truth, detections, "segm"),
    )
