"""Predicted masks in the image."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_masks

from lga_jax.data.object_masks import Bitmap, to_rle
from lga_jax.inference import pasting
from lga_jax.inference.pasting import paste
from tests.reference.pasting import paste as reference


def _whole(bitmap: Bitmap, hw: tuple[int, int]) -> np.ndarray:
    pixels = np.zeros(hw, bool)
    (x, y), (height, width) = bitmap.origin, bitmap.pixels.shape
    pixels[y : y + height, x : x + width] = bitmap.pixels
    return pixels


def test_a_mask_is_stretched_over_its_box():
    """Left half of a box of 4 x 2 pixels: two cells of 2 x 2 pixels."""
    pixels = _whole(paste(np.float32([[1, 0], [1, 0]]), np.array([1.0, 1, 5, 3]), (5, 8)), (5, 8))
    expected = np.zeros((5, 8), bool)
    expected[1:3, 1:3] = True
    np.testing.assert_array_equal(pixels, expected)


def test_the_threshold_is_a_half():
    box = np.array([0.0, 0, 4, 4])
    assert not paste(np.full((4, 4), 0.49, np.float32), box, (4, 4)).pixels.any()
    assert paste(np.full((4, 4), 0.5, np.float32), box, (4, 4)).pixels.all()


SIDES = st.floats(-3, 13, width=32)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.tuples(SIDES, SIDES, SIDES, SIDES), st.sampled_from([1, 4, 7]))
def test_it_is_what_the_plain_loop_gives(seed, sides, cells):
    (x1, x2), (y1, y2) = sorted(sides[:2]), sorted(sides[2:])
    assume(min(x2 - x1, y2 - y1) > 0.01)
    mask = np.random.default_rng(seed).random((cells, cells), np.float32)
    box = np.array([x1, y1, x2, y2])
    found, probabilities = _whole(paste(mask, box, (8, 10)), (8, 10)), reference(mask, box, (8, 10))
    sure = np.abs(probabilities - 0.5) > 1e-4
    np.testing.assert_array_equal(found[sure], (probabilities >= 0.5)[sure])


def test_a_large_box_is_computed_in_parts(monkeypatch):
    mask = np.random.default_rng(0).random((7, 7), np.float32)
    whole = paste(mask, np.array([1.0, 2, 90, 60]), (80, 100))
    monkeypatch.setattr(pasting, "_PIXELS_AT_ONCE", 200)
    parts = paste(mask, np.array([1.0, 2, 90, 60]), (80, 100))
    assert parts.origin == whole.origin
    np.testing.assert_array_equal(parts.pixels, whole.pixels)


@pytest.mark.parametrize("box", [[30, 3, 40, 9], [-9, 3, -2, 9], [5, 5, 5, 5]])
def test_a_box_outside_or_without_an_area_has_no_pixels(box):
    bitmap = paste(np.ones((4, 4), np.float32), np.array(box, float), (16, 20))
    assert not bitmap.pixels.any()
    assert coco_masks.area(to_rle(bitmap, (16, 20))) == 0
