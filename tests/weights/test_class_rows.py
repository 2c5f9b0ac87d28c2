import numpy as np
import pytest

from lga_jax.weights.coco_classes import COCO_CLASSES
from tests.weights import foreign
from tests.weights.loading import ABC, CLASSES, FROZEN, STAYS, V1, at, load, own, refused

COCO = tuple(COCO_CLASSES.values())


def rows_of(variables):
    """(what the class logits have, what the deltas have) in one number a class: their biases."""
    head = variables["params"]["box_head"]
    return head["classes"]["bias"], head["deltas"]["bias"].reshape(-1, 4)


def numbered(arrays, background_first):
    """A predictor whose biases are numbers of rows."""
    scores, boxes = "roi_heads.box_predictor.cls_score.bias", "roi_heads.box_predictor.bbox_pred.bias"
    count = len(arrays[scores])
    arrays[scores] = np.arange(count, dtype=np.float32)
    rows = np.arange(count if background_first else count - 1, dtype=np.float32)
    arrays[boxes] = np.repeat(rows, 4) * 10 + np.tile([0, 1, 2, 3], len(rows)).astype(np.float32)
    return arrays


def test_coco_rows_of_torchvision_are_category_ids():
    arrays = numbered(foreign.torchvision_detector(num_classes=90), background_first=True)
    variables, report = load(arrays, V1, ("Dog", "wheel", "toothbrush"))
    scores, boxes = rows_of(variables)
    np.testing.assert_array_equal(scores[[0, 2, 3]], [18, 90, 0])
    assert scores[1] >= STAYS and boxes[1].min() >= STAYS
    np.testing.assert_array_equal(boxes[[0, 2]], [[180, 181, 182, 183], [900, 901, 902, 903]])
    assert "  2 of 3 class rows by name; new: wheel; 88 rows of the file have no class here" in report
    kernel = at(variables, "params/box_head/classes/kernel")
    np.testing.assert_array_equal(kernel[:, 0], arrays["roi_heads.box_predictor.cls_score.weight"][18])
    np.testing.assert_array_equal(kernel[:, 3], arrays["roi_heads.box_predictor.cls_score.weight"][0])


def test_coco_rows_of_detectron2_are_counted():
    arrays = numbered(foreign.detectron2_detector(num_classes=80), background_first=False)
    variables, report = load(arrays, V1, ("toothbrush", "person"), author="torchvision")
    scores, boxes = rows_of(variables)
    np.testing.assert_array_equal(scores, [79, 0, 80])
    np.testing.assert_array_equal(boxes[:, 0], [790, 0])
    assert "2 of 2 class rows by name; 78 rows" in report


def test_all_of_coco():
    arrays = numbered(foreign.torchvision_detector(num_classes=90), background_first=True)
    scores, boxes = rows_of(load(arrays, V1, COCO)[0])
    np.testing.assert_array_equal(scores, [*COCO_CLASSES, 0])
    np.testing.assert_array_equal(boxes[:, 0], np.array(list(COCO_CLASSES)) * 10)


def test_names_are_worth_more_than_positions():
    arrays = numbered(foreign.torchvision_detector(), background_first=True)
    variables, report = load(arrays, V1, ("b", "a", "new"), class_names=("A", "b", "B"))
    scores, boxes = rows_of(variables)
    np.testing.assert_array_equal(scores[[0, 1, 3]], [2, 1, 0])  # "b" exactly, "a" whatever its case
    np.testing.assert_array_equal(boxes[:2, 0], [20, 10])
    assert "2 of 3 class rows by name; new: new; 1 rows of the file" in report


def test_unknown_names_go_by_position_or_not_at_all():
    arrays = numbered(foreign.torchvision_detector(), background_first=True)
    scores, _ = rows_of(load(arrays, V1)[0])
    np.testing.assert_array_equal(scores, [1, 2, 3, 0])
    for count, names in ((3, ("a", "b")), (90, ABC), (4, CLASSES)):  # 90: no name of COCO among them
        arrays = foreign.torchvision_detector(num_classes=count)
        variables, report = load(arrays, V1, names)
        assert all(rows.min() >= STAYS for rows in rows_of(variables))
        assert f"the class predictor is not loaded: {count} classes without names there, {len(names)} here" in report


def test_strict_does_not_mind_other_classes():
    load(foreign.torchvision_detector(num_classes=7), V1, CLASSES, strict=True)


def test_names_that_do_not_fit_the_predictor_are_refused():
    message = r"found 2; correct its metadata"
    refused(foreign.torchvision_detector(), V1, message, class_names=("a", "b"))


@pytest.mark.parametrize("classifier", ["shared", "joint"])
def test_rows_of_the_guide_go_by_name_too(classifier):
    changes = FROZEN | {"lga.classifier": classifier}
    arrays, about = own(changes)
    variables, _ = load(arrays, changes, ("c", "new", "a", "d"), **about)
    for leaf in ("bias", "kernel"):
        ours = at(variables, f"params/attention/guide_classes/{leaf}")
        theirs = arrays[f"params/attention/guide_classes/{leaf}"]
        np.testing.assert_array_equal(ours[..., [0, 2, 4]], theirs[..., [2, 0, 3]])
        assert ours[..., [1, 3]].min() >= STAYS
    other = FROZEN | {"lga.classifier": "shared" if classifier == "joint" else "joint"}
    refused(arrays, other, "params/attention/guide_classes/kernel: expected shape", ABC, **about)


@pytest.mark.slow
def test_coco_classes_are_torchvisions():
    meta = pytest.importorskip("torchvision.models._meta", reason="needs torchvision, which has the same list")
    listed = {i: name for i, name in enumerate(meta._COCO_CATEGORIES) if i and name != "N/A"}
    assert listed == COCO_CLASSES
