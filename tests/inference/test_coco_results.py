"""From padded-input pixels back to the image as stored."""

import json

import numpy as np
import pytest

from lga_jax.inference.coco_results import count_non_finite, to_coco
from lga_jax.structs import Detections


def detections_of(boxes, *, labels=None, valid=None, num_masks=2):
    """Detections of one image; the RoI of each is its box, masks sit at the box's centre with sigma (4, 6)."""
    boxes = np.asarray(boxes, np.float32).reshape(1, -1, 4)
    count = boxes.shape[1]
    centres = np.repeat((boxes[..., None, :2] + boxes[..., None, 2:]) / 2, num_masks, axis=2)
    return Detections(
        boxes=boxes,
        scores=np.linspace(0.9, 0.5, count, dtype=np.float32)[None],
        labels=np.asarray(labels if labels is not None else np.zeros(count), np.int32)[None],
        valid=np.asarray(valid if valid is not None else np.ones(count), bool)[None],
        rois=boxes,
        mask_centres=centres,
        mask_sigmas=np.broadcast_to(np.float32([4, 6]), centres.shape),
    )


HALF_AND_DOUBLE = np.float32([[2.0, 0.5]])  # the image was stretched: twice as high, half as wide
SIZE = np.int32([[40, 200]])


def test_each_axis_goes_back_by_its_own_scale():
    (result,) = to_coco(detections_of([10, 20, 30, 60], labels=[1]), HALF_AND_DOUBLE, SIZE, ["a.png"], [3, 7])
    assert result == {
        "image_id": "a.png",
        "category_id": 7,
        "bbox": [20.0, 10.0, 40.0, 20.0],
        "score": 0.9,
        "roi": [20.0, 10.0, 40.0, 20.0],
        "mask_centres": [[40.0, 20.0], [40.0, 20.0]],
        "mask_sigmas": [[8.0, 3.0], [8.0, 3.0]],
    }
    assert json.loads(json.dumps(result)) == result


def test_boxes_are_clipped_to_the_image_and_rois_are_not():
    (result,) = to_coco(detections_of([-8, 10, 120, 90]), HALF_AND_DOUBLE, SIZE, [1], [3])
    assert result["bbox"] == [0.0, 5.0, 200.0, 35.0]
    assert result["roi"] == [-16.0, 5.0, 256.0, 40.0]


def test_invalid_slots_are_left_out_and_order_is_kept():
    detections = detections_of([[0, 0, 4, 4], [0, 0, 5, 4], [0, 0, 6, 4]], valid=[True, False, True])
    results = to_coco(detections, np.ones((1, 2), np.float32), SIZE, [1], [3])
    assert [result["bbox"][2] for result in results] == [4.0, 6.0]
    assert [result["score"] for result in results] == [0.9, 0.5]


def test_without_masks_a_result_is_plain_coco():
    (result,) = to_coco(detections_of([0, 0, 4, 4], num_masks=0), np.ones((1, 2), np.float32), SIZE, [1], [3])
    assert set(result) == {"image_id", "category_id", "bbox", "score"}


@pytest.mark.parametrize("field", ["boxes", "scores", "mask_centres", "rois"])
def test_non_finite_detections_are_counted_and_left_out(field):
    detections = detections_of([[0, 0, 4, 4], [0, 0, 5, 4], [0, 0, 6, 4]], valid=[True, True, False])
    for slot in (1, 2):  # the last slot is not valid: what it holds does not matter
        leaf = getattr(detections, field).copy()
        leaf[0, slot] = np.nan
        detections = detections._replace(**{field: leaf})
    results = to_coco(detections, np.ones((1, 2), np.float32), SIZE, [1], [3])
    assert [result["bbox"] for result in results] == [[0.0, 0.0, 4.0, 4.0]]
    assert count_non_finite(detections) == 1


def test_no_images():
    none = Detections(*(leaf[:0] for leaf in detections_of([0, 0, 4, 4])))
    assert to_coco(none, np.zeros((0, 2), np.float32), np.zeros((0, 2), np.int32), [], [3]) == []
    assert count_non_finite(none) == 0
