"""COCO's average precision of object masks."""

from collections.abc import Mapping, Sequence

import numpy as np

from lga_jax.data.object_masks import Bitmap, ObjectMask, to_rle
from lga_jax.data.source import Source, object_masks_of
from lga_jax.errors import UserError
from lga_jax.evaluation.coco import CocoMetrics, coco_metrics

PREFIX = "segm/"  # of the names of COCO's twelve numbers


def segm_metrics(source: Source, truth: dict, detections: list[dict]) -> CocoMetrics | None:
    """COCO's metrics of the masks of detections; the keys of the summary have PREFIX. None for data without masks.

    An object without a usable mask is scored like a crowd of its box: detections there are ignored.

    Args:
        source: the images.
        truth: its ground truth for pycocotools. The annotations of an image stand in the order of its record's boxes.
        detections: COCO results with 'segmentation'.
    """
    masks = {record.image_id: object_masks_of(source, index) for index, record in enumerate(source.records)}
    if all(mask is None for of_image in masks.values() for mask in of_image):
        return None
    metrics = coco_metrics(_masked(truth, masks), detections, kind="segm")
    return metrics._replace(summary={f"{PREFIX}{name}": value for name, value in metrics.summary.items()})


def _masked(truth: dict, masks: Mapping[int | str, Sequence[ObjectMask | None]]) -> dict:
    """The ground truth with 'segmentation' in every annotation."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    by_image: dict[int | str, list[dict]] = {image_id: [] for image_id in sizes}
    for annotation in truth["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    annotations = []
    for image_id, of_image in by_image.items():
        of_boxes = masks.get(image_id, [None] * len(of_image))  # an image that is no record has crowds only
        if len(of_boxes) != len(of_image):
            raise UserError(
                f"image {image_id}",
                expected=f"an object mask, or None, for each of {len(of_image)} annotations",
                found=str(len(of_boxes)),
            )
        annotations += [_with_mask(*pair, sizes[image_id]) for pair in zip(of_image, of_boxes, strict=True)]
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
