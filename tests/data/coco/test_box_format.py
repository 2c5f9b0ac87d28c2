"""Which sets are suspected of boxes in another format than COCO's."""

import numpy as np
import pytest

from lga_jax.data.coco.box_format import report_layout, suspicious_layout

WH = (60, 40)
RIGHT = [20, 16, 7, 8]
AS_CORNERS = [40, 30, 55, 38]  # as x, y, width, height it reaches out on both axes; as corners it fits
FAR_OUT = [50, 5, 60, 5]  # it fits neither way
FRACTION = [0.5, 0.25, 1.0, 0.5]


def _layout(*kinds: tuple[int, list[float]]) -> dict[str, list[int]]:
    """The suspicious rows of a set with the given number of boxes per kind."""
    xywh = np.array([box for number, box in kinds for _ in range(number)], float).reshape(-1, 4)
    found = suspicious_layout(xywh, np.tile(np.array(WH), (len(xywh), 1)))
    return {kind: np.flatnonzero(rows).tolist() for kind, rows in found.items()}


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([(40, RIGHT)], {}),
        ([(10, AS_CORNERS)], {"corners": list(range(10))}),
        ([(97, AS_CORNERS), (3, FAR_OUT)], {"corners": list(range(100))}),  # all of them reach out
        ([(94, AS_CORNERS), (6, FAR_OUT)], {"reaching_out": list(range(100))}),  # too few fit as corners
        ([(10, FRACTION)], {"fractions": list(range(10))}),
        ([(96, FRACTION), (4, RIGHT)], {"fractions": list(range(96))}),
        ([(95, FRACTION), (5, RIGHT)], {}),  # nearly all is more than 95 %
        ([(20, FAR_OUT), (80, RIGHT)], {"reaching_out": list(range(20))}),
        ([(10, FAR_OUT), (90, RIGHT)], {}),  # many is more than a tenth
        ([(9, FAR_OUT), (9, RIGHT)], {}),  # too few to tell about a set
        ([], {}),
    ],
)
def test_the_share_of_boxes_decides(kinds, expected):
    assert _layout(*kinds) == expected


@pytest.mark.parametrize(
    ("box", "out"),
    [
        ([-1, 5, 10, 10], False),  # up to one pixel is rounding
        ([-1.5, 5, 10, 10], True),
        ([5, -1.5, 10, 10], True),
        ([51, 5, 10, 10], False),
        ([51.5, 5, 10, 10], True),
        ([5, 31.5, 10, 10], True),  # the height, not the width, bounds y
        ([45, 5, 10, 10], False),
    ],
)
def test_how_far_a_box_may_reach(box, out):
    assert _layout((12, [float(side) for side in box]), (12, RIGHT)) == (
        {"reaching_out": list(range(12))} if out else {}
    )


def test_numbers_of_no_use_are_no_reason_to_suspect():
    assert _layout((40, [float("nan")] * 4)) == {}
    assert _layout((3, [1e308, 1e308, 1e308, 1e308]), (40, RIGHT)) == {}


def test_the_report_is_a_line_with_both_numbers():
    xywh = np.array([AS_CORNERS] * 20, float)
    (line,) = report_layout(xywh, np.tile(np.array(WH), (20, 1)))
    assert line.startswith("WARNING: 20 of 20 boxes ")
    assert report_layout(xywh[:, [0, 1, 0, 1]] / 8, np.tile(np.array(WH), (20, 1))) == []
