"""Object masks of annotation files, through CocoJson, a mixture, the check at the start and the doctor."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from lga_jax.data.coco.source import CocoJson
from lga_jax.data.doctor.examine import examine
from lga_jax.data.faulty import check_masks
from lga_jax.data.mixed import MixedSource
from lga_jax.data.object_masks import AS_STORED, FULL, Polygons, RunLengths, cover, to_rle
from lga_jax.errors import UserError
from tests.data.conftest import truth
from tests.data.doctor.test_examine import _config

TOOTHBRUSH, CAR, TRAIN = range(3)  # annotations of the first image


def _square(x1: int, y1: int, x2: int, y2: int) -> list[int]:
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def _masked(toothbrush: object = None, car: object = None) -> dict:
    """The small set with masks; its crowd has uncompressed RLE of the upper half of the image."""
    content = truth()
    content["annotations"][TOOTHBRUSH]["segmentation"] = toothbrush or [_square(10, 5, 30, 20), _square(12, 20, 20, 35)]
    content["annotations"][CAR]["segmentation"] = car or [_square(51, 31, 58, 39)]
    content["annotations"][TRAIN]["segmentation"] = {"size": [40, 60], "counts": [0, *[20, 20] * 60][:-1] + [20]}
    return content


def _open(root: Path) -> CocoJson:
    return CocoJson(str(root), "annotations.json", "images", skip_empty=True)


def test_each_box_has_its_mask(make_folder):
    source = _open(make_folder(_masked()))
    toothbrush, car, train = source.object_masks(0)
    assert [type(mask) for mask in (toothbrush, car, train)] == [Polygons, Polygons, RunLengths]
    assert len(toothbrush.parts) == 2
    expected = np.zeros((40, 60), np.uint8)
    expected[:20] = FULL
    np.testing.assert_array_equal(cover(train, AS_STORED, (40, 60)), expected)
    assert check_masks("data.train", source) == [f"{source._annotations}: 3 object masks"]


def test_a_file_with_nan_has_its_masks_too(make_folder):
    content = _masked()
    content["annotations"][CAR]["area"] = float("nan")
    assert all(_open(make_folder(content)).object_masks(0))


def test_masks_are_read_only_when_they_are_asked_for(make_folder):
    root = make_folder(_masked())
    source = _open(root)
    (root / "annotations.json").write_text(json.dumps(_masked()) + " ")
    with pytest.raises(UserError) as raised:
        source.object_masks(0)
    assert raised.value.subject == str(root / "annotations.json")


FAULTS = {
    "mask_open": [[51, 31, 58, 39]],
    "mask_outside": [_square(1, 1, 4, 4)],
    "mask_empty": {"size": [40, 60], "counts": [2400]},
    "mask_size": {"size": [60, 40], "counts": [2000, 400]},
    "mask_malformed": {"size": [40, 60], "counts": [2000, 399]},
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_faulty_mask_is_counted_and_its_box_is_kept(kind, make_folder):
    root = make_folder(_masked(car=FAULTS[kind]))
    source = _open(root)
    assert [mask is None for mask in source.object_masks(0)] == [False, True, False]
    assert len(source.records[0].labels) == 3
    assert source.mask_counts()[0][1:] == (3, {kind: 1})
    assert len(check_masks("data.train", source)) == 2
    (finding,) = [f for f in examine(_config(root), True, True).sources["data.train"].findings if f.kind == kind]
    assert (finding.severity, finding.cases[0].bbox, finding.cases[0].detail) == ("warning", [50.5, 30, 9.5, 10], "car")


def test_a_set_without_masks_is_refused_for_a_mask_head_in_one_line(make_folder):
    root = make_folder()
    with pytest.raises(UserError) as raised:
        check_masks("data.train", _open(root))
    assert raised.value.subject == "data.train"
    assert "\n" not in str(raised.value)
    kinds = {finding.kind for finding in examine(_config(root), True, True).sources["data.train"].findings}
    assert "no_masks" in kinds
    assert not {"no_masks", "mask_missing"} & {
        finding.kind for finding in examine(_config(root), True).sources["data.train"].findings
    }


def test_the_doctor_notes_polygons_that_cross_themselves(make_folder):
    root = make_folder(_masked(toothbrush=[[10, 5, 30, 35, 30, 5, 10, 35]]))
    findings = examine(_config(root), True, True).sources["data.train"].findings
    assert [f.severity for f in findings if f.kind == "mask_crosses"] == ["note"]
    assert all(_open(root).object_masks(0))


def test_a_mixture_has_the_masks_of_its_boxes(make_folder):
    part = dict(source="coco_json", root=str(make_folder(_masked())), annotations="annotations.json", images="images")
    only_cars = dict(source="challenge", num_images=2, weight=1.0)
    source = MixedSource({"here": dict(part, skip_empty=True, weight=1.0), "there": only_cars}, "here")
    assert len(source.object_masks(0)) == 3
    assert source.object_masks(1) == []  # its classes are left out
    assert [counts.total for counts in source.mask_counts()] == [
        3,
        sum(len(r.labels) for r in source._parts[1].source.records),
    ]


_SHARED = Path(os.environ.get("LGA_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data")) / "coco_tiny80"


def test_masks_of_coco_are_those_of_pycocotools():
    if not _SHARED.is_dir():
        pytest.skip(f"no data set at {_SHARED}; LGA_SHARED_DATA names another place")
    name = "annotations/instances_val2017.json"
    source = CocoJson(str(_SHARED), name, "val2017", skip_empty=False)
    coco = COCO(str(_SHARED / name))
    assert source.mask_counts()[0].faults == {}
    for index, record in enumerate(source.records[:20]):
        for annotation, mask in zip(coco.imgToAnns[record.image_id], source.object_masks(index), strict=True):
            assert to_rle(mask, (record.height, record.width)) == coco.annToRLE(annotation)
