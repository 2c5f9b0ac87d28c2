import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lga_jax.data.augment.geometry import (
    KERNELS,
    crop_boxes,
    fit_hw,
    flip_boxes,
    flip_in_place,
    have_area,
    resize_hw,
    resize_into,
    scale_boxes,
    scaled_hw,
    turn_boxes,
)


def _resize(image: np.ndarray, hw: tuple[int, int], kernel: str = "bilinear") -> np.ndarray:
    out = np.zeros((*hw, 3), np.uint8)
    resize_into(out, image, hw, (0, 0), kernel)
    return out


def _noise(hw: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8)


@pytest.mark.parametrize(
    ("hw", "short_edge", "long_edge", "nearest", "floor"),
    [
        ((480, 640), 800, 1333, (800, 1067), (800, 1066)),
        ((640, 480), 800, 1333, (1067, 800), (1066, 800)),
        ((427, 640), 800, 1333, (800, 1199), (800, 1199)),
        ((333, 1000), 800, 1333, (444, 1333), (443, 1333)),  # the long edge bounds
        ((500, 375), 600, 1000, (800, 600), (800, 600)),
        ((200, 200), 300, 1000, (300, 300), (300, 300)),
        ((1000, 3), 300, 500, (500, 2), (500, 1)),  # 1.5
        ((1000, 1), 300, 400, (400, 1), (400, 1)),  # never to nothing
    ],
)
def test_resize_hw_by_hand(hw, short_edge, long_edge, nearest, floor):
    assert resize_hw(hw, short_edge, long_edge, "nearest") == nearest
    assert resize_hw(hw, short_edge, long_edge, "floor") == floor


def test_floor_is_that_of_a_product_of_doubles():
    # 97 * (800 / 97) is a little less than 800, and torchvision takes the floor of that as well.
    assert resize_hw((97, 120), 800, 1333, "floor")[0] == 799
    assert scaled_hw((10, 20), 0.25, "floor") == (2, 5)
    assert scaled_hw((10, 20), 0.25, "nearest") == (3, 5)


def test_fit_hw_shrinks_only_what_is_too_large():
    assert fit_hw((800, 1067), (800, 1344)) == (800, 1067)
    assert fit_hw((1067, 800), (800, 1344)) == (800, 600)
    assert fit_hw((100, 400), (800, 200)) == (50, 200)


@given(st.tuples(*[st.integers(1, 3000)] * 4))
def test_what_was_fitted_fits_and_touches_a_side(sides):
    hw, bound = sides[:2], sides[2:]
    fitted = fit_hw(hw, bound)
    assert fitted[0] <= bound[0]
    assert fitted[1] <= bound[1]
    assert fitted == hw or fitted[0] == bound[0] or fitted[1] == bound[1]


def test_flip_by_hand():
    image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    flip_in_place(image)
    np.testing.assert_array_equal(image, [[[3, 4, 5], [0, 1, 2]]])
    boxes = np.array([[0, 1, 3, 4]], np.float32)
    np.testing.assert_array_equal(flip_boxes(boxes, 10), [[7, 1, 10, 4]])
    np.testing.assert_array_equal(flip_boxes(flip_boxes(boxes, 10), 10), boxes)
    assert flip_boxes(np.zeros((0, 4), np.float32), 10).shape == (0, 4)


@pytest.mark.parametrize("width", [1, 12, 13])
def test_a_part_of_a_larger_array_is_flipped_where_it_lies(width):
    canvas = _noise((20, 30))
    expected = canvas.copy()
    expected[3:17, 5 : 5 + width] = expected[3:17, 5 : 5 + width][:, ::-1].copy()
    flip_in_place(canvas[3:17, 5 : 5 + width])
    np.testing.assert_array_equal(canvas, expected)


@pytest.mark.parametrize("kernel", KERNELS)
def test_enlarging_by_hand(kernel):
    # Pixel centres at one half: twice the width samples at -1/4, 1/4, 3/4, 5/4, the outer ones clamped.
    image = np.repeat(np.array([[[0], [100]]], np.uint8), 3, axis=2)
    np.testing.assert_array_equal(_resize(image, (1, 4), kernel)[0, :, 0], [0, 25, 75, 100])


def test_shrinking_by_hand():
    # Four times smaller: the plain kernel sees the two pixels beside its centres (2, 6 and 10), the wide one those up
    # to four pixels away: at 2 with the weight 3/28 (the filter ends at the border), at 6 with 5/32.
    image = np.zeros((1, 12, 3), np.uint8)
    image[0, 4] = 160
    np.testing.assert_array_equal(_resize(image, (1, 3), "bilinear")[0, :, 0], [0, 0, 0])
    np.testing.assert_array_equal(_resize(image, (1, 3), "antialias")[0, :, 0], [17, 25, 0])


def test_antialias_is_pillows_and_plain_is_opencvs():
    image = _noise((37, 51))
    for hw in ((80, 111), (20, 30), (60, 20)):
        pillows = np.asarray(Image.fromarray(image).resize(hw[::-1], Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(_resize(image, hw, "antialias"), pillows)
        np.testing.assert_array_equal(_resize(image, hw, "bilinear"), cv2.resize(image, hw[::-1]))


def test_the_kernels_agree_where_an_image_is_enlarged():
    image = _noise((37, 51))
    plain, wide = (_resize(image, (64, 88), kernel).astype(int) for kernel in KERNELS)
    np.testing.assert_allclose(plain, wide, atol=2)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("hw", [(14, 13), (70, 90), (5, 40)])
def test_resize_writes_into_a_part_of_a_larger_array_and_nowhere_else(kernel, hw):
    image = _noise((7, 9)) // 2 + 1
    canvas = np.zeros((80, 100, 3), np.uint8)
    inside = canvas[3 : 3 + hw[0], 4 : 4 + hw[1]]
    resize_into(inside, image, hw, (0, 0), kernel)
    np.testing.assert_array_equal(inside, _resize(image, hw, kernel))
    inside[:] = 0
    assert not canvas.any()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("hw", [(90, 120), (21, 33)])  # enlarged and made smaller
def test_a_crop_is_a_part_of_the_resized_image(kernel, hw):
    image = _noise((47, 61))
    whole = _resize(image, hw, kernel)
    for y, x, height, width in ((0, 0, 20, 33), (1, 0, 20, 33), (0, 2, 21, 31), (hw[0] - 10, hw[1] - 20, 10, 20)):
        part = np.zeros((height, width, 3), np.uint8)
        resize_into(part, image, hw, (y, x), kernel)
        np.testing.assert_allclose(part.astype(int), whole[y : y + height, x : x + width].astype(int), atol=1)


@given(
    box=st.tuples(st.integers(0, 20), st.integers(0, 15), st.integers(8, 20), st.integers(8, 15)),
    hw=st.tuples(st.integers(30, 120), st.integers(40, 160)),
    kernel=st.sampled_from(KERNELS),
    flipped=st.booleans(),
)
def test_boxes_follow_pixels(box, hw, kernel, flipped):
    x, y, width, height = box
    image = np.zeros((30, 40, 3), np.uint8)
    image[y : y + height, x : x + width] = 255
    boxes = scale_boxes(np.array([[x, y, x + width, y + height]], np.float32), np.divide(hw, (30, 40)))
    resized = _resize(image, hw, kernel)
    if flipped:
        flip_in_place(resized)
        boxes = flip_boxes(boxes, hw[1])
    bright = resized[..., 0] > 127
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(boxes[0], found, atol=1.01)


def test_crop_boxes_by_hand():
    boxes = np.array([[0, 0, 30, 40], [12, 25, 15, 28], [0, 0, 10, 20], [50, 60, 70, 80], [28, 0, 60, 21]], np.float32)
    cropped = crop_boxes(boxes, (20, 10), (30, 20))  # x from 10 to 30, y from 20 to 50
    np.testing.assert_array_equal(cropped[[0, 1, 4]], [[0, 0, 20, 20], [2, 5, 5, 8], [18, 0, 20, 1]])
    np.testing.assert_array_equal(have_area(cropped), [True, True, False, False, True])


@pytest.mark.parametrize(
    ("box", "expected"),
    [((0, 0, 1, 1), True), ((5, 5, 5, 9), False), ((5, 5, 9, 5), False), ((5, 5, 5, 5), False), ((9, 5, 5, 9), False)],
)
def test_a_box_has_an_area_if_it_has_both_sides(box, expected):
    assert have_area(np.array([box], np.float32)).tolist() == [expected]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_boxes_turn_with_the_image(turns):
    image = np.zeros((7, 11), np.uint8)
    image[1:4, 2:8] = 1
    rows, columns = (np.flatnonzero(np.rot90(image, turns).any(axis)) for axis in (1, 0))
    boxes = turn_boxes(np.array([[2, 1, 8, 4]], np.float32), (7, 11), turns)
    assert boxes.tolist() == [[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]]
