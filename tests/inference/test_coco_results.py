"""From padded-input pixels back to the image as stored."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_masks

from lga_jax.data.object_masks import to_rle
from lga_jax.data.source import Record
from lga_jax.inference.coco_results import CocoResults, count_non_finite, per_image, to_coco
from lga_jax.inference.locate import Located
from lga_jax.inference.pasting import paste
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
        masks=np.zeros((1, count, 0, 0), np.float32),
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


def test_lengths_are_rounded_to_a_thousandth_of_a_pixel_and_scores_to_a_millionth():
    detections = detections_of([10.01234, 20.05678, 30.0499, 60.07111])
    detections = detections._replace(scores=np.float32([[0.12345678]]))
    (result,) = to_coco(detections, np.ones((1, 2), np.float32), np.int32([[100, 200]]), [1], [3])
    assert result["bbox"] == result["roi"] == [10.012, 20.057, 20.038, 40.014]
    assert result["mask_centres"][0] == [20.031, 40.064]
    assert result["score"] == 0.123457


def test_per_image_gives_each_row_the_index_the_size_and_the_id_of_its_record():
    rows = [detections_of([0, 0, 50, 30]), detections_of([0, 0, 50, 30], labels=[1])]
    detections = Detections(*(np.concatenate(leaves) for leaves in zip(*rows, strict=True)))
    located = Located(np.int32([2, 0]), np.float32([[1, 1], [2, 2]]), detections)
    none = (np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool))
    records = [Record("a", 40, 20, *none), Record("b", 9, 9, *none), Record("c", 20, 40, *none)]
    (first, results), (second, others) = per_image(located, records, [3, 7])
    assert (first, second) == (2, 0)
    assert [(r["image_id"], r["category_id"], r["bbox"]) for r in results] == [("c", 3, [0, 0, 40, 20])]
    assert [(r["image_id"], r["category_id"], r["bbox"]) for r in others] == [("a", 7, [0, 0, 20, 15])]


def test_a_mask_is_pasted_into_the_stored_image():
    """The box is 40 x 20 pixels at (20, 10) of the stored image."""
    detections = detections_of([10, 20, 30, 60])
    detections = detections._replace(masks=np.tile(np.float32([1, 1, 0, 0]), (1, 1, 4, 1)))
    (result,) = to_coco(detections, HALF_AND_DOUBLE, SIZE, ["a.png"], [3])
    expected = to_rle(paste(detections.masks[0, 0], np.array([20.0, 10, 60, 30]), (40, 200)), (40, 200))
    assert result["segmentation"] == {"size": [40, 200], "counts": expected["counts"].decode()}
    assert 0.9 * 400 < coco_masks.area(expected) <= 400  # its left half
    assert json.loads(json.dumps(result)) == result


def test_results_are_collected_in_the_order_of_the_source():
    none = (np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool))
    results = CocoResults([Record(name, 40, 40, *none) for name in "abc"], [3])
    for index, slots in (([2, -1], 2), ([0, 1], 1)):
        detections = detections_of([[0, 0, 5, 4]] * slots)
        detections = Detections(*(np.concatenate([leaf] * 2) for leaf in detections))
        results.add(Located(np.int32(index), np.ones((2, 2), np.float32), detections))
    results.gather()  # one process has all
    assert [result["image_id"] for result in results.in_source_order()] == ["a", "b", "c", "c"]
    assert not results.have_masks
