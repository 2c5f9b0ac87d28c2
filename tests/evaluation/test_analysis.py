"""The analysis: hotcoco's numbers are pycocotools', and a small set whose mistakes are known."""

import copy
import json
import math

import hotcoco
import numpy as np
import pytest

from lga_jax.data.object_masks import Bitmap, to_rle
from lga_jax.evaluation.analysis import analyse
from lga_jax.evaluation.coco import as_datasets, coco_metrics
from tests.evaluation.test_coco import FIXTURE, SHARED, found


def twelve_numbers(truth, detections, capfd):
    evaluation = hotcoco.COCOeval(
        *map(hotcoco.COCO, as_datasets(truth, detections, [image["id"] for image in truth["images"]])), "bbox"
    )
    evaluation.run()
    capfd.readouterr()
    return np.where(evaluation.stats < 0, np.nan, evaluation.stats)


def random_set(rng, text_ids):
    """Images with up to six objects, a fifth of them crowds, and detections near them, some of another class."""
    name = (lambda i: f"{i:03d}.png") if text_ids else int
    truth = {
        "images": [{"id": name(i), "height": 300, "width": 300} for i in range(12)],
        "categories": [{"id": number, "name": f"class {number}"} for number in (9, 2, 5)],
        "annotations": [],
    }
    detections = []
    for i in range(12):
        for _ in range(rng.integers(7)):
            box, category = rng.uniform(1, 150, 4), int(rng.choice([9, 2, 5]))
            entry = {
                "image_id": name(i),
                "category_id": category,
                "bbox": box.tolist(),
                "iscrowd": int(rng.random() < 0.2),
            }
            truth["annotations"].append(entry)
            for _ in range(rng.integers(3)):
                moved = np.abs(box + rng.normal(0, 12, 4)) + 1
                detections.append(
                    found(name(i), int(rng.choice([category, 2])), moved.tolist(), round(rng.random(), 2))
                )
    return truth, detections


@pytest.mark.parametrize("text_ids", [False, True])
def test_hotcoco_gives_the_numbers_of_pycocotools_on_random_sets(text_ids, capfd):
    rng = np.random.default_rng(text_ids)
    for _ in range(8):
        truth, detections = random_set(rng, text_ids)
        metrics = coco_metrics(truth, detections)
        numbers = twelve_numbers(truth, detections, capfd)
        np.testing.assert_allclose(numbers, list(metrics.summary.values()), rtol=0, atol=1e-12)
        result = analyse(truth, detections)
        np.testing.assert_allclose(np.nanmean(result.precision), metrics.summary["AP"], rtol=0, atol=1e-12)
        per_class = result.precision.mean((0, 1))
        np.testing.assert_allclose(per_class, list(metrics.per_class.values()), rtol=0, atol=1e-12)


@pytest.mark.skipif(not FIXTURE.is_dir(), reason=f"no data set at {FIXTURE}; LGA_SHARED_DATA names another place")
def test_hotcoco_gives_the_published_numbers(capfd):
    truth = json.loads((FIXTURE / "instances_val2014_100.json").read_text())
    detections = json.loads((FIXTURE / "instances_val2014_fakebbox100_results.json").read_text())
    published = json.loads((FIXTURE / "expected_bbox.json").read_text())["bbox"]
    np.testing.assert_allclose(twelve_numbers(truth, detections, capfd), list(published.values()), rtol=0, atol=1e-9)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no data at {SHARED}; LGA_SHARED_DATA names another place")
def test_hotcoco_agrees_on_crowds_of_coco(capfd):
    truth = json.loads(next((SHARED / "coco_tiny80" / "annotations").glob("*val*.json")).read_text())
    rng = np.random.default_rng(0)
    detections = [
        found(a["image_id"], a["category_id"], (np.array(a["bbox"]) * rng.uniform(0.9, 1.1, 4)).tolist(), rng.random())
        for a in truth["annotations"]
        for _ in range(2)
    ]
    summary = coco_metrics(truth, detections).summary
    np.testing.assert_allclose(twelve_numbers(truth, detections, capfd), list(summary.values()), rtol=0, atol=1e-12)


LEFT, RIGHT, LOW = [10, 10, 40, 40], [100, 10, 40, 40], [10, 100, 40, 40]


def known_set():
    """Dogs (id 7) stand before cats (id 3). Each detection but the first one of a cat is a mistake of another kind."""
    truth = {
        "images": [{"id": 4, "height": 200, "width": 200}, {"id": 1, "height": 200, "width": 200}],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 0, "image_id": 4, "category_id": 3, "bbox": LEFT},
            {"id": 5, "image_id": 4, "category_id": 7, "bbox": RIGHT},
            {"id": 6, "image_id": 1, "category_id": 7, "bbox": LEFT},
            {"id": 7, "image_id": 1, "category_id": 3, "bbox": LOW, "iscrowd": 1},
        ],
    }
    detections = [
        found(4, 3, LEFT, 0.9),  # correct
        found(4, 3, RIGHT, 0.8),  # a dog
        found(4, 3, [12, 10, 40, 40], 0.7),  # twice
        found(1, 7, [30, 10, 40, 40], 0.65),  # a third of the dog
        found(1, 3, [12, 102, 30, 30], 0.6),  # within the crowd: does not count
        found(1, 3, [150, 150, 20, 20], 0.55),  # nothing there
        found(4, 7, RIGHT, 0.2),  # correct, with a low score
    ]
    return truth, detections


def test_mistakes_of_a_known_set():
    truth, detections = known_set()
    before = copy.deepcopy((truth, detections))
    result = analyse(truth, detections)
    assert (truth, detections) == before
    assert result.class_names == ("dog", "cat") and result.num_objects == (2, 1)
    assert result.best_of_class[1].f1 == 1.0 and result.best_of_class[1].threshold == pytest.approx(0.86, abs=0.01)
    counts = {kind: entry.count for kind, entry in result.error_kinds.items() if entry.count}
    assert counts == {"wrong_class": 1, "duplicate": 1, "poor_box": 1, "background": 1}


def test_false_detections_and_objects_below_the_threshold_are_mistakes():
    truth, detections = known_set()
    detections[0]["score"] = 0.75  # below the confusion, so that the dog with its low score decides
    result = analyse(truth, detections)
    assert result.best.threshold == pytest.approx(0.2)
    assert {(m.kind, m.image_id, m.detection, m.annotation) for m in result.mistakes} == {
        ("wrong_class", 4, 1, 1),
        ("duplicate", 4, 2, 0),
        ("poor_box", 1, 3, 2),
        ("background", 1, 5, None),
        ("missed", 1, None, 2),
    }
    assert [m.cost for m in result.mistakes] == sorted([m.cost for m in result.mistakes], reverse=True)


def test_confusions_are_in_the_order_of_the_categories():
    """Rows are objects, columns detections, the last of each nothing; the cat is found and one dog is called a cat."""
    truth, detections = known_set()
    for detection, score in zip(detections, (0.9, 0.95, 0.1, 0.1, 0.1, 0.1, 0.1), strict=True):
        detection["score"] = score
    result = analyse(truth, detections[:-1])
    assert result.best.threshold > 0.1
    np.testing.assert_array_equal(result.confusion, [[0, 1, 1], [0, 1, 0], [0, 0, 0]])


def test_label_errors_name_images_and_positions():
    truth, detections = known_set()
    errors = {(e.kind, e.image_id, e.detection, e.annotation) for e in analyse(truth, detections[:-1]).label_errors}
    assert ("wrong_label", 4, 1, 1) in errors and ("missing_annotation", 1, 5, None) in errors


def test_precision_and_scores_agree_with_calibration():
    truth, detections = known_set()
    filled = {
        round(entry.low, 1): (entry.count, entry.precision) for entry in analyse(truth, detections).bins if entry.count
    }
    assert filled == {0.2: (1, 1.0), 0.5: (1, 0.0), 0.6: (1, 0.0), 0.7: (1, 0.0), 0.8: (1, 0.0), 0.9: (1, 1.0)}


@pytest.mark.parametrize("kept", ["objects", "detections", "nothing"])
def test_without_objects_or_detections(kept):
    truth, detections = known_set()
    truth = truth if kept == "objects" else truth | {"annotations": []}
    result = analyse(truth, detections if kept == "detections" else [])
    assert math.isnan(result.best.threshold)
    assert len(result.mistakes) == (3 if kept == "objects" else 0)
    assert all(mistake.kind == "missed" for mistake in result.mistakes)


def test_class_names_may_hold_anything():
    truth, detections = random_set(np.random.default_rng(0), text_ids=False)
    plain = analyse(truth, detections)
    for category, name in zip(truth["categories"], ("\ud800", "a\nb\x1b[2J", ""), strict=True):
        category["name"] = name
    strange = analyse(truth, detections)
    assert strange.class_names == ("\ud800", "a\nb\x1b[2J", "")
    np.testing.assert_array_equal(strange.confusion, plain.confusion)


def with_rectangles(truth, detections, spoil):
    """Both with the pixels of their boxes as masks; `spoil` changes the box of the mask of a detection."""

    def masked(entry, box):
        x, y, width, height = np.round(box).astype(int).tolist()
        rle = to_rle(Bitmap(np.ones((height, width), bool), (x, y)), (200, 200))
        return {**entry, "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}}

    annotations = [masked(annotation, annotation["bbox"]) for annotation in truth["annotations"]]
    found = [masked(entry, spoil(number, entry["bbox"])) for number, entry in enumerate(detections)]
    return truth | {"annotations": annotations}, found


def test_masks_are_matched_by_their_pixels():
    """The boxes are those of `known_set`. The mask of the correct cat is a third of it, that of a dog is empty."""

    def spoil(number, box):
        return {0: [*box[:2], 14, 40], 6: [*box[:2], 0, 0]}.get(number, box)

    truth, detections = with_rectangles(*known_set(), spoil)
    result = analyse(truth, detections, "segm")
    metrics = coco_metrics(truth, detections, kind="segm")
    np.testing.assert_allclose(np.nanmean(result.precision), metrics.summary["AP"], rtol=0, atol=1e-12)
    assert metrics.summary["AP"] < analyse(truth, detections).precision.mean()
    counts = {kind: entry.count for kind, entry in result.error_kinds.items()}
    assert counts["poor_box"] == 2  # the cat, and the third of a dog as before
    assert counts["duplicate"] == 0  # the second detection of the cat is the correct one now
    kinds = {(mistake.kind, mistake.detection) for mistake in result.mistakes}
    assert ("poor_box", 0) in kinds and ("duplicate", 2) not in kinds


def test_whole_masks_change_nothing():
    truth, detections = with_rectangles(*known_set(), lambda number, box: box)
    boxes, masks = analyse(truth, detections), analyse(truth, detections, "segm")
    assert masks.mistakes == boxes.mistakes and masks.error_kinds == boxes.error_kinds
    np.testing.assert_array_equal(masks.confusion, boxes.confusion)
