"""AP of object masks."""

import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lga_jax.data.challenge.source import Challenge
from lga_jax.data.coco.source import CocoJson
from lga_jax.data.object_masks import Bitmap, to_rle
from lga_jax.data.source import truth_of
from lga_jax.errors import UserError
from lga_jax.evaluation.coco import SUMMARY_NAMES, coco_metrics
from lga_jax.evaluation.segm import segm_metrics, with_masks
from tests.evaluation.boards import Boards


def _detections(source, truth: dict, spoil=lambda number, pixels: pixels) -> list[dict]:
    """Every annotated object that has a mask, without crowds, with the pixels that `spoil` leaves."""
    results, annotations = [], iter(truth["annotations"])
    for index, record in enumerate(source.records):
        hw = record.height, record.width
        for mask in source.object_masks(index):
            annotation = next(annotations)
            if mask is not None and not annotation["iscrowd"]:
                rle = to_rle(Bitmap(spoil(len(results), _pixels(mask, hw))), hw)
                segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
                kept = {key: annotation[key] for key in ("image_id", "category_id", "bbox")}
                results.append({**kept, "score": 0.9 - 1e-4 * len(results), "segmentation": segmentation})
    return results


def _pixels(mask, hw):
    return coco_masks.decode(to_rle(mask, hw)).astype(bool)


class Vehicles(Challenge):
    """Four images; vehicles whose position in their image is in `without` have no mask."""

    def __init__(self, *without: int) -> None:
        super().__init__(4, 1, (64, 64))
        self._without = without

    def object_masks(self, index):
        masks = super().object_masks(index)
        return [None if number in self._without else mask for number, mask in enumerate(masks)]


def test_true_masks_score_one_and_half_of_a_mask_does_not():
    source, truth = Vehicles(), truth_of(Vehicles())
    metrics = segm_metrics(with_masks(source, truth), _detections(source, truth))
    assert list(metrics.summary) == [f"segm/{name}" for name in SUMMARY_NAMES]
    assert metrics.summary["segm/AP"] == pytest.approx(1.0)
    left = _detections(source, truth, lambda number, pixels: pixels & (np.arange(64) % 3 > 0))
    assert 0.1 < segm_metrics(with_masks(source, truth), left).summary["segm/AP"] < 0.6
    assert coco_metrics(truth, left).summary["AP"] == pytest.approx(1.0)  # their boxes are right


def test_an_object_without_a_usable_mask_is_neither_missed_nor_wrongly_found():
    truth = truth_of(Vehicles())
    found = _detections(Vehicles(), truth)
    without_first, all_masks = (with_masks(source, truth) for source in (Vehicles(0), Vehicles()))
    assert segm_metrics(without_first, found).summary["segm/AP"] == pytest.approx(1.0)
    fewer = _detections(Vehicles(0), truth)
    assert len(fewer) < len(found)
    assert segm_metrics(without_first, fewer).summary["segm/AP"] == pytest.approx(1.0)
    assert segm_metrics(all_masks, fewer).summary["segm/AP"] < 1


def test_annotations_keep_their_order():
    truth = truth_of(Vehicles())
    truth["annotations"] = truth["annotations"][1::2] + truth["annotations"][::2]  # not image by image
    masked = with_masks(Vehicles(), truth)["annotations"]
    plain = [{key: value for key, value in one.items() if key != "segmentation"} for one in masked]
    assert plain == truth["annotations"]


def test_data_without_masks_have_no_such_score():
    assert with_masks(Boards(3), truth_of(Boards(3))) is None
    assert with_masks(Vehicles(*range(9)), truth_of(Vehicles())) is None


def test_another_number_of_masks_than_of_boxes_is_a_users_error():
    class Short(Boards):
        def object_masks(self, index):
            return [Bitmap(np.ones((2, 2), bool))] * 7

    with pytest.raises(UserError) as raised:
        with_masks(Short(1), truth_of(Short(1)))
    assert raised.value.found == "7"


_SHARED = Path(os.environ.get("LGA_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")) / "coco_tiny80"


def test_numbers_are_those_of_pycocotools_on_the_file(tmp_path):
    if not _SHARED.is_dir():
        pytest.skip(f"no data set at {_SHARED}; LGA_SHARED_DATA names another place")
    name = "annotations/instances_val2017.json"
    source = CocoJson(str(_SHARED), name, "val2017", skip_empty=False)
    truth = truth_of(source)
    rng = np.random.default_rng(0)
    found = _detections(source, truth, lambda number, pixels: np.roll(pixels, rng.integers(-4, 5, 2), (0, 1)))[::2]
    # With boxes, pycocotools would call a detection small by the area of its box.
    without_boxes = [{key: value for key, value in one.items() if key != "bbox"} for one in found]
    (tmp_path / "found.json").write_text(json.dumps(without_boxes))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(_SHARED / name))
        evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "found.json")), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = list(segm_metrics(with_masks(source, truth), found).summary.values())
    np.testing.assert_allclose(ours, evaluation.stats, atol=1e-12)
    assert 0.2 < ours[0] < 0.6
