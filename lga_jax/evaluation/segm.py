"""COCO's average precision of object masks."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from lga_jax.data.object_masks import Bitmap, ObjectMask, to_rle
from lga_jax.data.source import Source, object_masks_of
from lga_jax.errors import UserError
from lga_jax.evaluation.coco import CocoMetrics
from lga_jax.evaluation.lvis import metrics

PREFIX = "segm/"  # of the names of the metrics


def segm_metrics(masked: dict, detections: list[dict]) -> CocoMetrics:
    """The metrics of the masks of detections; the keys of the summary have PREFIX.

    Args:
        masked: the ground truth of `with_masks`.
        detections: COCO results with 'segmentation'.
    """
    found = metrics(masked, detections, kind="segm")
    return found._replace(summary={f"{PREFIX}{name}": value for name, value in found.summary.items()})


def with_masks(source: Source, truth: dict) -> dict | None:
    """The ground truth with the mask of every object as 'segmentation'; None for data without masks.

    An object without a usable mask becomes a crowd of its box: detections there are ignored.

    Args:
        source: the images.
        truth: its ground truth for pycocotools. The annotations of an image stand in the order of its record's boxes.
    """
    masks = {record.image_id: object_masks_of(source, index) for index, record in enumerate(source.records)}
    if all(mask is None for of_image in masks.values() for mask in of_image):
        return None
    return _masked(truth, masks)


def _masked(truth: dict, masks: Mapping[int | str, Sequence[ObjectMask | None]]) -> dict:
    """The ground truth with 'segmentation' in every annotation; their order stays."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    counts = Counter(annotation["image_id"] for annotation in truth["annotations"])
    for image_id, of_boxes in masks.items():
        if len(of_boxes) != counts[image_id]:
            raise UserError(
                f"image {image_id}",
                expected=f"an object mask, or None, for each of {counts[image_id]} annotations",
                found=str(len(of_boxes)),
            )
    # An image that is no record has crowds only.
    following = {image_id: iter(masks.get(image_id, [None] * count)) for image_id, count in counts.items()}
    annotations = [
        _with_mask(annotation, next(following[annotation["image_id"]]), sizes[annotation["image_id"]])
        for annotation in truth["annotations"]
    ]
    return {**truth, "annotations": annotations}


def _with_mask(annotation: dict, mask: ObjectMask | None, hw: tuple[int, int]) -> dict:
    if mask is not None:
        return {**annotation, "segmentation": to_rle(mask, hw)}
    x, y, width, height = annotation["bbox"]
    (left, top), (right, bottom) = (
        np.clip(np.round([(x, y), (x + width, y + height)]), 0, hw[::-1]).astype(int).tolist()
    )
    box = Bitmap(np.ones((bottom - top, right - left), bool), (left, top))
    return {**annotation, "segmentation": to_rle(box, hw), "iscrowd": 1}
