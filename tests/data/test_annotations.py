"""Which boxes of a set can be used, what is left of them, and the records that they make."""

import numpy as np
import pytest

from lga_jax.data.annotations import is_empty, make_columns, report_counts, to_records

HW = np.array([[40, 60], [50, 30]])


def _columns(*rows: tuple, hw: np.ndarray = HW):
    """Rows of (image, x1, y1, x2, y2, label, crowd)."""
    image, x1, y1, x2, y2, labels, crowd = map(np.array, zip(*rows, strict=True))
    return make_columns(image, np.stack([x1, y1, x2, y2], axis=1).astype(float), labels, crowd.astype(bool), hw)


@pytest.mark.parametrize(
    ("xyxy", "kept", "degenerate", "outside"),
    [
        ((10, 5, 30, 35), (10, 5, 30, 35), False, False),
        ((-5, -5, 70, 50), (0, 0, 60, 40), False, False),  # width 60 bounds x, height 40 bounds y
        ((59, 5, 70, 6), (59, 5, 60, 6), False, False),
        ((60, 5, 70, 6), None, False, True),  # it begins where the image ends
        ((-9, 5, 0, 6), None, False, True),
        ((5, 40, 6, 45), None, False, True),
        ((5, -9, 6, 0), None, False, True),
        ((5, 5, 5, 9), None, True, False),
        ((5, 9, 8, 5), None, True, False),
        ((5, np.nan, 8, 9), None, True, False),
        ((5, 5, np.inf, 9), None, True, False),
        ((50, 5, 50 + 1e-9, 9), None, True, False),  # an area that float32 does not have
        ((60 - 1e-9, 5, 70, 9), None, True, False),
    ],
)
def test_what_is_left_of_a_box(xyxy, kept, degenerate, outside):
    columns = _columns((0, *xyxy, 0, False))
    assert (columns.degenerate.item(), columns.outside.item()) == (degenerate, outside)
    assert columns.usable.item() == (kept is not None)
    if kept:
        np.testing.assert_array_equal(columns.boxes, [kept])
    assert (columns.boxes.dtype, columns.labels.dtype) == (np.float32, np.int32)


def test_a_box_is_clipped_to_its_own_image():
    columns = _columns((1, 0, 0, 99, 99, 0, False), (0, 0, 0, 99, 99, 0, False))
    np.testing.assert_array_equal(columns.boxes, [[0, 0, 30, 50], [0, 0, 60, 40]])


def test_records_have_their_boxes_in_the_order_of_the_file():
    columns = _columns(
        (2, 0, 0, 9, 9, 7, False),
        (0, 1, 1, 9, 9, 1, False),
        (2, 1, 1, 9, 9, 6, True),
        (0, 5, 5, 5, 5, 5, False),
        (0, 2, 2, 9, 9, 0, False),
        hw=np.array([[40, 60], [50, 30], [20, 10], [5, 5]]),
    )
    records = to_records(["a", "b", "c", "d"], np.array([[40, 60], [50, 30], [20, 10], [5, 5]]), columns)
    assert [record.image_id for record in records] == ["a", "b", "c", "d"]
    assert [(record.height, record.width) for record in records] == [(40, 60), (50, 30), (20, 10), (5, 5)]
    assert [record.labels.tolist() for record in records] == [[1, 0], [], [7, 6], []]
    assert [record.crowd.tolist() for record in records] == [[False, False], [], [False, True], []]
    np.testing.assert_array_equal(records[0].boxes_original, [[1, 1, 9, 9], [2, 2, 9, 9]])
    assert {record.weight for record in records} == {1.0}


def test_counts_name_what_is_not_simply_trained_on():
    columns = _columns(
        (0, 0, 0, 9, 9, 0, True),
        (0, 0, 0, 9, 9, 0, False),
        (1, 0, 0, 9, 9, 0, True),
        (1, 0, 0, 0, 9, 0, True),  # a crowd of no area counts as that
        (1, 90, 0, 99, 9, 0, False),
    )
    records = to_records([1, 2], HW, columns)
    assert [is_empty(record) for record in records] == [False, True]
    assert report_counts(records, columns, skip_empty=False) == [
        "1 images without boxes to train on: kept as background",
        "2 crowd boxes: ignored in training, kept for evaluation",
        "1 degenerate boxes (no area, nan or infinity): left out",
        "1 boxes outside their image: left out",
    ]
    assert report_counts(records, columns, skip_empty=True)[0] == "1 images without boxes to train on: left out"
    one = _columns((0, 0, 0, 9, 9, 0, False))
    assert report_counts(to_records([1], HW[:1], one), one, skip_empty=False) == []
