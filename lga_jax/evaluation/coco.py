"""COCO's average precision and recall of boxes and object masks, computed by pycocotools without its output."""

import contextlib
import io
import math
from collections.abc import Iterable
from typing import NamedTuple

import hotcoco
import numpy as np
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lga_jax.data.federated import LISTS
from lga_jax.errors import listed

SUMMARY_NAMES = (
    "AP",  # mean over IoU 0.50:0.05:0.95, all areas, 100 detections per image
    "AP50",
    "AP75",
    "AP_small",  # area below 32^2 original pixels
    "AP_medium",
    "AP_large",  # above 96^2
    "AR_1",  # recall with one detection per image
    "AR_10",
    "AR_100",
    "AR_small",
    "AR_medium",
    "AR_large",
)


class CocoMetrics(NamedTuple):
    """Metrics in [0, 1]; nan if the ground truth has no objects for a metric (COCO writes -1)."""

    summary: dict[str, float]  # keys SUMMARY_NAMES
    per_class: dict[str, float]  # AP by class name, in the order of the ground truth's categories


def coco_metrics(
    ground_truth: dict,
    detections: list[dict],
    image_ids: Iterable[int | str] | None = None,
    kind: str = "bbox",
) -> CocoMetrics:
    """COCO's twelve numbers and the AP of each class.

    Args:
        ground_truth: a COCO dictionary with 'images', 'annotations' and 'categories'. Image ids may be strings;
            'area' (default width x height) and 'iscrowd' (default 0) may be missing. It is not changed.
        detections: COCO results: 'image_id', 'category_id', 'bbox' (x, y, width, height) and 'score'.
        image_ids: the images to score; None: all. Detections in other images are ignored.
        kind: "bbox", or "segm": annotations and detections also have 'segmentation', compressed RLE.

    Raises:
        ValueError: the image of a detection or of image_ids is missing in the ground truth.
    """
    wanted = [image["id"] for image in ground_truth["images"]] if image_ids is None else list(image_ids)
    _check_images_known(ground_truth, detections, wanted)
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = (_index(dataset) for dataset in as_datasets(ground_truth, detections, wanted, kind))
        evaluation = COCOeval(truth, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    summary = dict(zip(SUMMARY_NAMES, map(nan_for_nothing, evaluation.stats), strict=True))
    return CocoMetrics(summary, per_class(evaluation, ground_truth["categories"]))


def _check_images_known(ground_truth: dict, detections: list[dict], wanted: list[int | str]) -> None:
    known = {image["id"] for image in ground_truth["images"]}
    unknown = ({detection["image_id"] for detection in detections} | set(wanted)) - known
    if unknown:
        raise ValueError(
            f"image ids {listed(sorted(map(repr, unknown)))}: not in the ground truth's {len(known)} images"
        )


def as_datasets(
    ground_truth: dict, detections: list[dict], image_ids: Iterable[int | str], kind: str = "bbox"
) -> tuple[dict, dict]:
    """Ground truth and detections as two COCO data sets with ids for pycocotools and hotcoco; neither input is changed.

    Images are numbered from 0 in the order of their sorted ids. The id of a box is its position, from 1, among the
    boxes of these images: for pycocotools, a match with id 0 is no match.
    """
    numbers = {image_id: number for number, image_id in enumerate(in_order(image_ids))}
    # Ids as names: hotcoco takes no unpaired surrogate.
    categories = [
        {"id": category["id"], "name": str(category["id"])} | _kept(category, ("frequency",))
        for category in ground_truth["categories"]
    ]
    lists = {image["id"]: _kept(image, LISTS) for image in ground_truth["images"]}
    # pycocotools asks for a size, which compressed RLE has itself.
    images = [{"id": number, "height": 0, "width": 0} | lists[image_id] for image_id, number in numbers.items()]
    if kind == "segm":  # the area of a detection decides whether it is small, and pycocotools decodes both
        detections = [{**found, "area": float(coco_masks.area(found["segmentation"]))} for found in detections]
    others = {"images": images, "categories": categories}
    truth, found = (
        others | {"annotations": _annotations(numbers, boxes, kind)}
        for boxes in (ground_truth["annotations"], detections)
    )
    return truth, found


def in_order(image_ids: Iterable[int | str]) -> list[int | str]:
    """Sorted ids. The order decides between equal scores, so integers keep their order; texts follow."""
    return sorted(image_ids, key=lambda image_id: (isinstance(image_id, str), image_id))


def _kept(entry: dict, keys: Iterable[str]) -> dict:
    return {key: entry[key] for key in keys if key in entry}


def _annotations(numbers: dict[int | str, int], boxes: list[dict], kind: str) -> list[dict]:
    kept = [box for box in boxes if box["image_id"] in numbers]
    keys = ("iscrowd", "area", "bbox", "category_id", "score", *(["segmentation"] if kind == "segm" else []))
    return [
        {"iscrowd": 0, "area": box["bbox"][2] * box["bbox"][3]}
        | _kept(box, keys)
        | {"id": position, "image_id": numbers[box["image_id"]]}
        for position, box in enumerate(kept, start=1)
    ]


def _index(dataset: dict) -> COCO:
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco


def per_class(evaluation: COCOeval | hotcoco.COCOeval, categories: list[dict]) -> dict[str, float]:
    """AP by class name, nan without objects, from an evaluation by pycocotools or hotcoco."""
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # [IoU, recall, class], all areas, most detections
    by_id = {category_id: precision[:, :, k] for k, category_id in enumerate(evaluation.params.catIds)}
    return {
        category["name"]: float(np.mean(values)) if (values := by_id[category["id"]]).min() >= 0 else math.nan
        for category in categories
    }


def nan_for_nothing(value: float) -> float:
    """nan for COCO's -1, which stands for a metric without objects."""
    return math.nan if value < 0 else float(value)
