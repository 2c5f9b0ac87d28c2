import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lga_jax.data.transforms import View, draw_view, fit_hw, flip, flip_boxes, resize, resize_hw, scale_boxes


@pytest.mark.parametrize(
    ("hw", "short_edge", "long_edge", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1067)),
        ((640, 480), 800, 1333, (1067, 800)),
        ((427, 640), 800, 1333, (800, 1199)),
        ((333, 1000), 800, 1333, (444, 1333)),  # the long edge bounds
        ((500, 375), 600, 1000, (800, 600)),
        ((200, 200), 300, 1000, (300, 300)),
        ((1000, 3), 300, 500, (500, 2)),  # 1.5 is rounded up
        ((1000, 1), 300, 400, (400, 1)),  # never to nothing
    ],
)
def test_resize_hw_by_hand(hw, short_edge, long_edge, expected):
    assert resize_hw(hw, short_edge, long_edge) == expected


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
    np.testing.assert_array_equal(flip(image), [[[3, 4, 5], [0, 1, 2]]])
    boxes = np.array([[0, 1, 3, 4]], np.float32)
    np.testing.assert_array_equal(flip_boxes(boxes, 10), [[7, 1, 10, 4]])
    np.testing.assert_array_equal(flip_boxes(flip_boxes(boxes, 10), 10), boxes)
    assert flip_boxes(np.zeros((0, 4), np.float32), 10).shape == (0, 4)


def test_resize_by_hand():
    # Pixel centres at one half: twice the width samples at -1/4, 1/4, 3/4, 5/4, the outer ones clamped.
    image = np.repeat(np.array([[[0], [100]]], np.uint8), 3, axis=2)
    np.testing.assert_array_equal(resize(image, (1, 4))[0, :, 0], [0, 25, 75, 100])
    assert resize(image, (1, 4)).dtype == np.uint8


def test_resize_writes_into_a_part_of_a_larger_array_and_nowhere_else():
    image = np.random.default_rng(0).integers(1, 255, (7, 9, 3), np.uint8)
    canvas = np.zeros((20, 30, 3), np.uint8)
    resize(image, (14, 13), out=canvas[:14, :13])
    np.testing.assert_array_equal(canvas[:14, :13], resize(image, (14, 13)))
    canvas[:14, :13] = 0
    assert not canvas.any()


@given(
    box=st.tuples(st.integers(0, 20), st.integers(0, 15), st.integers(8, 20), st.integers(8, 15)),
    hw=st.tuples(st.integers(30, 120), st.integers(40, 160)),
    flipped=st.booleans(),
)
def test_boxes_follow_pixels(box, hw, flipped):
    x, y, width, height = box
    image = np.zeros((30, 40, 3), np.uint8)
    image[y : y + height, x : x + width] = 255
    boxes = np.array([[x, y, x + width, y + height]], np.float32)
    if flipped:
        image, boxes = flip(image), flip_boxes(boxes, 40)
    bright = resize(image, hw)[..., 0] > 127
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(scale_boxes(boxes, np.divide(hw, (30, 40)))[0], found, atol=1.01)


def test_views_take_every_edge_and_flip_as_often_as_asked():
    rng = np.random.default_rng(0)
    views = [draw_view(rng, (640, 672, 704), 0.25) for _ in range(3000)]
    counts = [sum(view.short_edge == edge for view in views) for edge in (640, 672, 704)]
    np.testing.assert_allclose(counts, 1000, atol=100)
    np.testing.assert_allclose(sum(view.flip for view in views), 750, atol=100)
    assert draw_view(rng, (5,), 0.0) == View(5, False)
    assert draw_view(rng, (5,), 1.0) == View(5, True)
