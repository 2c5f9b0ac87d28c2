import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_masks

from lga_jax.data.object_masks import (
    AS_STORED,
    FULL,
    MASK_FAULTS,
    Bitmap,
    Polygons,
    RunLengths,
    cover,
    crosses_itself,
    parse_mask,
    to_rle,
)
from tests.data.conftest import mutate

HW = (20, 30)
WHOLE = np.array([0, 0, 30, 20], np.float32)
SQUARE = [4, 2, 10, 2, 10, 8, 4, 8]  # x from 4 to 10, y from 2 to 8


def _rle(pixels: np.ndarray) -> dict:
    return coco_masks.encode(np.asfortranarray(pixels.astype(np.uint8)))


def _pixels(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    pixels = np.zeros(HW, bool)
    for x1, y1, x2, y2 in boxes:
        pixels[y1:y2, x1:x2] = True
    return pixels


def _plain_counts(pixels: np.ndarray) -> list[int]:
    column_by_column = pixels.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], column_by_column, [not column_by_column[-1]]])))
    return np.diff(np.concatenate([[0], edges])).tolist()


def test_three_forms_of_one_square_cover_the_same_cells():
    pixels = _pixels((4, 2, 10, 8))
    plain = parse_mask({"size": list(HW), "counts": _plain_counts(pixels)}, HW, WHOLE)
    compressed = parse_mask({"size": list(HW), "counts": _rle(pixels)["counts"].decode()}, HW, WHOLE)
    masks = [parse_mask([SQUARE], HW, WHOLE), plain, compressed, Bitmap(pixels)]
    assert [type(mask) for mask in masks] == [Polygons, RunLengths, RunLengths, Bitmap]
    for mask in masks:
        np.testing.assert_array_equal(cover(mask, AS_STORED, HW), FULL * pixels)
        np.testing.assert_array_equal(coco_masks.decode(to_rle(mask, HW)), pixels)


@pytest.mark.parametrize(
    ("segmentation", "kind"),
    [
        (None, "mask_missing"),
        ([], "mask_missing"),
        ("text", "mask_malformed"),
        ([[1, 2, 3, 4]], "mask_open"),
        ([[]], "mask_open"),
        ([SQUARE, [1, 2]], "mask_open"),
        ([[1, 2, 3, 4, 5, 6, 7]], "mask_malformed"),
        ([[1, 2, 3, 4, 5, float("nan")]], "mask_malformed"),
        ([[1, 2, 3, 4, 5, 10**400]], "mask_malformed"),
        ([["1", "2", "3", "4", "5", "6"]], "mask_malformed"),
        ([[[1, 2], [3, 4], [5, 6]]], "mask_malformed"),
        ([[1, 2, 3, 2, 5, 2]], "mask_empty"),
        ([[40, 2, 50, 2, 50, 8]], "mask_outside"),
        ([[-9, -9, -2, -9, -2, -3]], "mask_outside"),
        ({"size": [30, 20], "counts": [300, 300]}, "mask_size"),
        ({"size": [20, 30], "counts": [300, 299]}, "mask_malformed"),
        ({"size": [20, 30], "counts": [700, -100]}, "mask_malformed"),
        ({"size": [20, 30], "counts": [300, 2**70]}, "mask_malformed"),
        ({"size": [20, 30], "counts": [600]}, "mask_empty"),
        ({"size": [20, 30], "counts": "oo"}, "mask_malformed"),
        ({"size": [20, 30], "counts": ""}, "mask_malformed"),
        ({"size": [20, 30], "counts": "PPPPPPPPPPPP1"}, "mask_malformed"),
        ({"size": [20, 30], "counts": "ü"}, "mask_malformed"),
        ({"size": [20, 30]}, "mask_malformed"),
        ({"counts": [600]}, "mask_malformed"),
    ],
)
def test_faults_of_a_segmentation(segmentation, kind):
    assert parse_mask(segmentation, HW, WHOLE) == kind


@given(st.data())
def test_any_segmentation_is_a_mask_or_has_a_known_fault(data):
    content = {
        "masks": [[[*SQUARE], [*SQUARE]], {"size": [20, 30], "counts": [300, 300]}, _rle(_pixels((4, 2, 10, 8)))]
    }
    content["masks"][2]["counts"] = content["masks"][2]["counts"].decode()
    mutate(data, content)
    for segmentation in content.get("masks") or []:
        mask = parse_mask(segmentation, HW, WHOLE)
        assert mask in MASK_FAULTS if isinstance(mask, str) else cover(mask, AS_STORED, HW).shape == HW


def test_a_mask_beside_its_box_is_outside():
    assert parse_mask([SQUARE], HW, np.array([12, 2, 20, 8], np.float32)) == "mask_outside"


@given(st.lists(st.booleans(), min_size=HW[0] * HW[1], max_size=HW[0] * HW[1]).map(np.array))
def test_compressed_counts_are_read_as_pycocotools_writes_them(pixels):
    pixels = pixels.reshape(HW)
    pixels[3, 4] = True
    code = _rle(pixels)["counts"].decode()
    mask = parse_mask({"size": list(HW), "counts": code}, HW, WHOLE)
    assert mask.counts == code.encode()
    np.testing.assert_array_equal(cover(mask, AS_STORED, HW), FULL * pixels)


@pytest.mark.parametrize(
    "mask", [Polygons((np.array(SQUARE, np.float32).reshape(-1, 2),)), Bitmap(_pixels((4, 2, 10, 8)))]
)
@pytest.mark.parametrize("flip", [False, True])
def test_cells_of_a_box_hold_their_covered_share(mask, flip):
    """Cells of 2 x 2 pixels from (3, 2) on: the first column is covered by half, from the second on completely."""
    seen = AS_STORED.then(((-1, 0), (0, 1)), (30, 0)) if flip else AS_STORED
    box = np.array([20, 2, 27, 8] if flip else [3, 2, 10, 8], np.float32)
    box[0 if flip else 2] += -1 if flip else 1  # eight pixels wide: the last column is half outside too
    cells = cover(mask, seen.within(box, (3, 4)), (3, 4))
    expected = np.tile([FULL // 2, FULL, FULL, FULL // 2], (3, 1))
    np.testing.assert_allclose(cells, expected, atol=1)


def test_overlapping_parts_are_one_object_and_a_crossing_is_a_hole():
    square = np.array(SQUARE, np.float32).reshape(-1, 2)
    both = cover(Polygons((square, square + 3)), AS_STORED, HW)
    np.testing.assert_array_equal(both, FULL * _pixels((4, 2, 10, 8), (7, 5, 13, 11)))
    twice = np.concatenate([square, square])  # COCO fills what the outline goes around an odd number of times
    assert not cover(Polygons((twice,)), AS_STORED, HW).any()


def test_an_outline_far_out_of_a_sliver_is_filled_in_little_memory():
    """A box of a millionth of a pixel: without clipping, the outline would be 10^10 cells long."""
    large = Polygons((np.array([[-1e4, -1e4], [1e4, -1e4], [1e4, 1e4], [-1e4, 1e4]], np.float32),))
    sliver = np.array([5, 5, 5 + 1e-6, 9], np.float64)
    assert (cover(large, AS_STORED.within(sliver, (8, 8)), (8, 8)) == FULL).all()


@given(st.lists(st.tuples(st.floats(-40, 60), st.floats(-40, 60)), min_size=3, max_size=12))
def test_clipping_changes_no_cell(points):
    """The same polygon in a grid that needs no clipping, cut to the small grid."""
    mask = Polygons((np.array(points, np.float32),))
    moved = AS_STORED.then(offset=(48, 48))
    wide = cover(mask, moved, (128, 128))[48 : 48 + HW[0], 48 : 48 + HW[1]].astype(int)
    differ = np.abs(cover(mask, AS_STORED, HW) - wide) > FULL // 2
    assert differ.sum() <= 2 * len(points)  # pycocotools rounds an outline at its corners, and clipping adds some


@pytest.mark.parametrize(
    ("points", "crosses"),
    [
        ([[0, 0], [4, 0], [4, 4], [0, 4]], False),
        ([[0, 0], [4, 4], [4, 0], [0, 4]], True),
        ([[0, 0], [4, 0], [2, 0], [2, 3]], False),
        ([[0, 0], [9, 0], [9, 9], [5, 9], [5, -2], [2, -2]], True),
    ],
)
def test_crossing_sides_are_found(points, crosses):
    assert crosses_itself(np.array(points, np.float32)) == crosses


BITS = st.lists(st.booleans(), min_size=12, max_size=12).map(lambda bits: np.array(bits).reshape(4, 3))


@given(BITS, st.sampled_from([(4, 3), (4, 9), (9, 3), (11, 8)]), st.integers(0, 5), st.integers(0, 5))
def test_runs_of_a_bitmap_are_those_of_the_whole_image(pixels, hw, right, down):
    x, y = min(right, hw[1] - 3), min(down, hw[0] - 4)
    whole = np.zeros(hw, bool)
    whole[y : y + 4, x : x + 3] = pixels
    assert to_rle(Bitmap(pixels, (x, y)), hw) == _rle(whole)


@pytest.mark.parametrize("flip", [False, True])
def test_a_bitmap_ends_where_its_rectangle_ends(flip):
    """Two pixels of an object in a box of four columns and two rows around them."""
    seen = AS_STORED.then(((-1, 0), (0, 1)), (30, 0)) if flip else AS_STORED
    box = np.array([23, 7, 27, 9] if flip else [3, 7, 7, 9], np.float32)
    cells = cover(Bitmap(np.ones((1, 2), bool), (4, 8)), seen.within(box, (2, 4)), (2, 4))
    np.testing.assert_array_equal(cells, [[0] * 4, [0, FULL, FULL, 0]])
    far = np.array([10, 15, 12, 18], np.float32)
    assert not cover(Bitmap(np.ones((1, 2), bool), (4, 8)), seen.within(far, (3, 3)), (3, 3)).any()
