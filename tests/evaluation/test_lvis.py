"""LVIS's metrics: a case by hand, and equality with pycocotools where the lists verify everything."""

import numpy as np
import pytest
from pycocotools import mask as coco_masks

from lga_jax.evaluation.analysis import analyse
from lga_jax.evaluation.bootstrap import outcomes
from lga_jax.evaluation.coco import coco_metrics
from lga_jax.evaluation.lvis import MAX_DETECTIONS, NAMES, lvis_metrics, metrics
from tests.evaluation.test_coco import found

BOX, OTHER = [10, 10, 20, 20], [60, 60, 20, 20]


def truth_of(images, groups, boxes):
    """Ground truth; an image is (negative list, list of classes annotated in part), a box (image, category, xywh)."""
    return {
        "images": [
            {
                "id": number,
                "height": 100,
                "width": 100,
                "neg_category_ids": negative,
                "not_exhaustive_category_ids": partly,
            }
            for number, (negative, partly) in enumerate(images)
        ],
        "categories": [{"id": i, "name": f"class {i}", "frequency": group} for i, group in groups.items()],
        "annotations": [
            {"id": n, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3]}
            for n, (image, category, box) in enumerate(boxes, start=1)
        ],
    }


TRUTH = truth_of(
    images=[([2], []), ([], [3]), ([], []), ([1], [])],
    groups={1: "r", 2: "c", 3: "f", 4: "f"},
    boxes=[(0, 1, BOX), (1, 3, BOX), (2, 2, BOX), (2, 4, BOX), (3, 4, BOX)],
)
DETECTIONS = [
    found(0, 1, BOX, 0.9),
    found(2, 1, BOX, 0.95),  # class 1 is not verified in image 2: ignored
    found(3, 1, OTHER, 0.99),  # class 1 is absent from image 3: false, and scores higher than the right one
    found(1, 3, OTHER, 0.9),  # not all objects of class 3 have a box in image 1: ignored
    found(1, 3, BOX, 0.8),
    found(0, 3, OTHER, 0.9),  # class 3 is not verified in image 0: ignored
    found(2, 2, BOX, 0.5),
    found(2, 4, OTHER, 0.7),  # all objects of class 4 have a box in image 2: false
    found(2, 4, BOX, 0.6),
]


def test_by_hand():
    """Class 1: a false detection before the right one, precision 1/2 at every recall. Classes 2 and 3: perfect.

    Class 4: the false detection comes first, then one of two objects is found: precision 1/2 up to recall 1/2, which 51
    of the 101 recall points reach.
    """
    result = lvis_metrics(TRUTH, DETECTIONS)
    of_4 = 0.5 * 51 / 101
    assert result.per_class == pytest.approx({"class 1": 0.5, "class 2": 1.0, "class 3": 1.0, "class 4": of_4})
    assert tuple(result.summary) == tuple(NAMES.values())
    wanted = {"AP": (0.5 + 1 + 1 + of_4) / 4, "AP_rare": 0.5, "AP_common": 1.0, "AP_frequent": (1 + of_4) / 2}
    assert {name: result.summary[name] for name in wanted} == pytest.approx(wanted)
    assert result.summary["AR_300"] == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    assert np.isnan(result.summary["AP_large"])
    assert metrics(TRUTH, DETECTIONS).per_class == result.per_class  # chosen because of the lists


def test_masks_have_the_same_metrics():
    def with_mask(box):
        x, y, w, h = box["bbox"]
        pixels = np.zeros((100, 100), np.uint8, order="F")
        pixels[y : y + h, x : x + w] = 1
        rle = coco_masks.encode(pixels)
        return box | {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}}

    truth = TRUTH | {"annotations": [with_mask(box) for box in TRUTH["annotations"]]}
    result = lvis_metrics(truth, [with_mask(box) for box in DETECTIONS], kind="segm")
    assert result.per_class == pytest.approx(lvis_metrics(TRUTH, DETECTIONS).per_class)


def random_case(seed, verified):
    """Boxes and noisy detections in 12 images; all classes are verified in all of them, or by chance."""
    rng = np.random.default_rng(seed)
    names = {1: "r", 5: "c", 6: "f"}
    boxes, detections, images = [], [], []
    for image in range(12):
        present = set()
        for _ in range(rng.integers(0, 6)):
            category, box = int(rng.choice(list(names))), [*rng.uniform(0, 60, 2), *rng.uniform(5, 100, 2)]
            boxes.append((image, category, [float(value) for value in box]))
            present.add(category)
            if rng.random() < 0.8:
                moved = [float(value) for value in np.add(box, rng.normal(0, 3, 4))]
                detections.append(found(image, category, moved, round(float(rng.random()), 2)))
        for _ in range(4):
            box = [float(value) for value in (*rng.uniform(0, 60, 2), *rng.uniform(5, 100, 2))]
            detections.append(found(image, int(rng.choice(list(names))), box, round(float(rng.random()), 2)))
        images.append((sorted(set(names) - present) if verified else [], []))
    return truth_of(images, names, boxes), detections


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_pycocotools_where_all_classes_are_verified(seed):
    truth, detections = random_case(seed, verified=True)
    ours, theirs = lvis_metrics(truth, detections), coco_metrics(truth, detections)
    shared = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_small", "AR_medium", "AR_large"]
    assert {n: ours.summary[n] for n in shared} == pytest.approx(
        {n: theirs.summary[n] for n in shared}, abs=1e-12, nan_ok=True
    )
    assert ours.summary["AR_300"] == pytest.approx(theirs.summary["AR_100"], abs=1e-12)  # no image has so many
    assert ours.per_class == pytest.approx(theirs.per_class, abs=1e-12)
    assert ours.summary["AP_rare"] == pytest.approx(theirs.per_class["class 1"], abs=1e-12)
    fewer, _ = random_case(seed, verified=False)
    assert lvis_metrics(fewer, detections).summary["AP"] > ours.summary["AP"]  # false detections are ignored


def test_detections_beyond_the_best_300_of_an_image_do_not_count():
    truth = truth_of([([2], [])], {1: "f", 2: "f"}, [(0, 1, BOX)])
    others = [found(0, 2, OTHER, 0.9)] * MAX_DETECTIONS
    assert lvis_metrics(truth, [*others[1:], found(0, 1, BOX, 0.1)]).per_class["class 1"] == pytest.approx(1.0)
    assert lvis_metrics(truth, [*others, found(0, 1, BOX, 0.1)]).per_class["class 1"] == 0.0


def test_without_detections_ap_is_zero_and_without_frequencies_the_groups_are_nan():
    assert lvis_metrics(TRUTH, []).summary["AP"] == 0.0
    plain = TRUTH | {"categories": [{"id": c["id"], "name": c["name"]} for c in TRUTH["categories"]]}
    summary = lvis_metrics(plain, DETECTIONS).summary
    assert summary["AP"] == lvis_metrics(TRUTH, DETECTIONS).summary["AP"]
    assert np.isnan([summary[f"AP_{group}"] for group in ("rare", "common", "frequent")]).all()


def test_the_analysis_leaves_out_what_does_not_count():
    analysis = analyse(TRUTH, DETECTIONS)
    false = sorted(one.detection for one in analysis.mistakes if one.kind != "missed")
    assert set(false) <= {2, 7}  # only the detections of an absent class and of a wrong place
    assert analysis.confusion[-1].sum() <= 2  # background taken for an object
    assert analysis.ap50 == pytest.approx(tuple(lvis_metrics(TRUTH, DETECTIONS).per_class.values()))


def test_the_bootstrap_counts_the_same_detections():
    counted = {name: int(one.counted[0].sum()) for name, one in outcomes(TRUTH, DETECTIONS)["all"].items()}
    assert counted == {"class 1": 2, "class 2": 1, "class 3": 1, "class 4": 2}
