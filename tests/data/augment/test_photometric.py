import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lga_jax.data.augment.photometric import Colour, distort, draw_colour

COLOURS = st.builds(Colour, st.floats(0.875, 1.125), st.floats(0.5, 1.5), st.floats(0.5, 1.5), st.floats(-0.05, 0.05))
LUMA = [0.299, 0.587, 0.114]


def _image(low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, (20, 30, 3), np.uint8)


def _luma(image: np.ndarray) -> np.ndarray:
    return image @ np.array(LUMA)


def test_by_hand():
    image = np.array([[[100, 100, 100], [200, 200, 200]]], np.uint8)
    np.testing.assert_array_equal(distort(image, Colour(brightness=1.1))[..., 0], [[110, 220]])
    np.testing.assert_array_equal(distort(image, Colour(brightness=1.5))[..., 0], [[150, 255]])
    np.testing.assert_array_equal(distort(image, Colour(contrast=0.5))[..., 0], [[125, 175]])
    red = np.array([[[200, 0, 0]]], np.uint8)
    np.testing.assert_array_equal(distort(red, Colour(saturation=0.5)), [[[130, 30, 30]]])
    green = distort(np.array([[[128, 64, 64]]], np.uint8), Colour(hue=1 / 3))
    assert green[0, 0].argmax() == 1  # hue grows from red to green


def test_nothing_is_done_to_colours_that_stay():
    image = _image()
    assert distort(image, Colour()) is image
    assert draw_colour(np.random.default_rng(0), 0.0) == Colour()


@given(COLOURS)
def test_it_is_what_the_four_are_one_after_the_other(colour):
    """As the definitions read, in floating point, away from the ends of uint8; OpenCV computes in fixed point."""
    image = _image(110, 140)
    pixels = image * colour.brightness
    pixels = colour.contrast * pixels + (1 - colour.contrast) * _luma(pixels).mean()
    pixels = colour.saturation * pixels + (1 - colour.saturation) * _luma(pixels)[..., None]
    np.testing.assert_allclose(distort(image, colour._replace(hue=0.0)), pixels, atol=0.75)
    np.testing.assert_allclose(_luma(distort(image, colour)), _luma(pixels), atol=0.75)  # which hue does not change


@given(COLOURS, st.integers(0, 255))
def test_grey_stays_grey(colour, grey):
    distorted = distort(np.full((2, 3, 3), grey, np.uint8), colour)
    assert np.ptp(distorted, axis=2).max() <= 1  # one half may be rounded either way


@pytest.mark.parametrize("hue", [-0.05, 0.05])
def test_hue_turns_as_far_as_that_of_hsv_does(hue):
    hsv = np.stack([np.arange(0, 360, 3), np.full(120, 0.4), np.full(120, 150)], axis=-1).astype(np.float32)[None]
    ours = distort(np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)).astype(np.uint8), Colour(hue=hue))
    turned = cv2.cvtColor(ours.astype(np.float32), cv2.COLOR_RGB2HSV)[..., 0] - hsv[..., 0]
    turned = (turned + 180) % 360 - 180
    np.testing.assert_allclose(turned.mean(), 360 * hue, atol=2)  # the angles of YIQ are not quite those of HSV
    np.testing.assert_allclose(turned, 360 * hue, atol=12)


def test_draws_are_within_their_ranges_and_as_frequent_as_asked():
    rng = np.random.default_rng(0)
    drawn = np.array([draw_colour(rng, 0.3) for _ in range(2000)])
    np.testing.assert_allclose((drawn != Colour()).mean(axis=0), 0.3, atol=0.04)
    np.testing.assert_allclose(drawn.min(axis=0), [0.875, 0.5, 0.5, -0.05], atol=0.01)
    np.testing.assert_allclose(drawn.max(axis=0), [1.125, 1.5, 1.5, 0.05], atol=0.01)
    together = (drawn != Colour()).prod(axis=1).mean()
    np.testing.assert_allclose(together, 0.3**4, atol=0.008)  # independent of each other
