"""Hit rate, chance and spread on objects small enough to check by eye; AP per challenge on a set of three images."""

import math

import pytest

from lga_jax.evaluation.mask_hits import ap_per_challenge, measure_attention, true_positives

# One object of 70 x 70 pixels at (10, 10): a cell of the RoI is 10 pixels. Its part is the 14 x 35 box at (10, 10).
OBJECT = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 10, 70, 70], "part_bbox": [10, 10, 14, 35]}


def truth_of(*annotations, images=({"id": 1},)):
    return {
        "images": list(images),
        "categories": [{"id": 3, "name": "crane"}, {"id": 7, "name": "mixer"}],
        "annotations": list(annotations),
    }


def found(centres=((15, 15), (45, 45)), *, score=0.9, category=3, image=1, bbox=(10, 10, 70, 70), roi=(10, 10, 70, 70)):
    sigmas = [[10, 10]] * len(centres)
    return {"image_id": image, "category_id": category, "bbox": list(bbox), "score": score, "roi": list(roi)} | {
        "mask_centres": [list(centre) for centre in centres],
        "mask_sigmas": sigmas,
    }


def test_hit_chance_and_spread_by_hand():
    """One of two centres is in the part. The part covers 14 x 35 / 70^2 = 1/10 of the RoI: two draws hit with 0.19.

    The centres are (15, 15) and (45, 45): each lies hypot(15, 15) pixels = hypot(1.5, 1.5) cells from their mean.
    """
    attention = measure_attention(truth_of(OBJECT), [found()])
    assert attention.num_true_positives == 1
    assert attention.hit_rate == 1.0
    assert attention.hit_rate_per_mask == (1.0, 0.0)
    assert attention.chance_per_mask == pytest.approx(0.1)
    assert attention.chance == pytest.approx(0.19)
    assert attention.spread == pytest.approx(math.hypot(1.5, 1.5))


def test_a_part_half_outside_the_roi_counts_with_the_area_inside():
    attention = measure_attention(truth_of(OBJECT), [found(((60, 60),), roi=(17, 10, 63, 70))])
    assert attention.chance == pytest.approx(7 * 35 / (63 * 70))
    assert attention.hit_rate == 0.0 and attention.spread == 0.0


def test_only_true_positives_count():
    wrong_class = found(category=7, score=0.99)
    misplaced = found(bbox=(50, 50, 70, 70), score=0.98)
    second_on_the_object = found(((70, 70), (70, 70)), score=0.3)
    detections = [second_on_the_object, wrong_class, misplaced, found(score=0.9)]
    pairs = true_positives([OBJECT], detections)
    assert [(box["id"], detection["score"]) for box, detection in pairs] == [(1, 0.9)]
    assert measure_attention(truth_of(OBJECT), detections).hit_rate == 1.0


@pytest.mark.parametrize(("width", "counts"), [(70, True), (36, True), (35, True), (34, False), (25, False)])
def test_a_true_positive_covers_half_of_the_union(width, counts):
    detection = found(bbox=(10, 10, width, 70))  # IoU: width / 70
    assert len(true_positives([OBJECT], [detection])) == counts
    assert measure_attention(truth_of(OBJECT), [detection]).num_true_positives == counts


def test_crowds_are_no_objects():
    crowd = OBJECT | {"id": 2, "bbox": [100, 10, 70, 70], "part_bbox": [100, 10, 14, 35], "iscrowd": 1}
    detections = [found(), found(((150, 60), (150, 60)), bbox=(100, 10, 70, 70), roi=(100, 10, 70, 70))]
    attention = measure_attention(truth_of(OBJECT, crowd), detections)
    assert (attention.num_true_positives, attention.hit_rate) == (1, 1.0)


def test_two_objects_in_a_row_take_one_detection_each():
    neighbour = OBJECT | {"id": 2, "bbox": [20, 10, 70, 70]}
    first, second = found(score=0.9, bbox=(12, 10, 70, 70)), found(score=0.8, bbox=(12, 10, 70, 70))
    pairs = true_positives([OBJECT, neighbour], [second, first])
    assert [(box["id"], detection["score"]) for box, detection in pairs] == [(1, 0.9), (2, 0.8)]


def test_uniform_centres_reach_the_rate_called_chance():
    """A 50 x 50 grid of centre pairs over the RoI hits as often as `chance` says."""
    grid = [10 + 70 * (i + 0.5) / 50 for i in range(50)]
    points = [(x, y) for x in grid for y in grid]
    pairs = [(points[i], points[(i * 1601 + 7) % len(points)]) for i in range(len(points))]
    boxes = [OBJECT | {"id": i + 1, "image_id": i} for i in range(len(points))]
    detections = [found(pair, image=i) for i, pair in enumerate(pairs)]
    attention = measure_attention(truth_of(*boxes), detections)
    assert attention.hit_rate_per_mask == pytest.approx((attention.chance_per_mask,) * 2, abs=1e-9)
    assert attention.hit_rate == pytest.approx(attention.chance, abs=0.02)


def test_without_parts_or_masks_there_is_nothing_to_measure():
    plain = {key: value for key, value in OBJECT.items() if key != "part_bbox"}
    maskless = {key: value for key, value in found().items() if not key.startswith("mask")}
    assert measure_attention(truth_of(plain), [found()]) is None
    assert measure_attention(truth_of(OBJECT), [maskless]) is None
    assert measure_attention(truth_of(OBJECT), []) is None


def test_no_true_positive_is_nan_not_zero():
    attention = measure_attention(truth_of(OBJECT), [found(category=7)])
    assert attention.num_true_positives == 0
    assert math.isnan(attention.hit_rate) and all(map(math.isnan, attention.hit_rate_per_mask))
    assert len(attention.hit_rate_per_mask) == 2


def test_ap_per_challenge_and_severity():
    images = [
        {"id": 1, "challenge": "plain", "severity": 0},
        {"id": 2, "challenge": "camouflage", "severity": 3},
        {"id": 3, "challenge": "camouflage", "severity": 1},
    ]
    truth = truth_of(*[OBJECT | {"id": i, "image_id": i} for i in (1, 2, 3)], images=images)
    rows = ap_per_challenge(truth, [found(image=1), found(image=3, bbox=(10, 10, 70, 56))])  # IoU 1 and 0.8
    assert [row[:3] for row in rows] == [("plain", 0, 1), ("camouflage", 1, 1), ("camouflage", 3, 1)]
    assert [row.ap for row in rows] == pytest.approx([1.0, 0.7, 0.0])
    assert ap_per_challenge(truth_of(OBJECT), []) == []
