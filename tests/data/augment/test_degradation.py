import numpy as np
import pytest

from lga_jax.data.augment.degradation import blur_in_place, compress_in_place, draw_blur, draw_quality


def _noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def _error(image: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(image.astype(int) - other).mean())


def test_a_blurred_edge_is_the_integral_of_a_gaussian():
    image = np.zeros((5, 40, 3), np.uint8)
    image[:, 20:] = 255
    blur_in_place(image, 1.0)
    np.testing.assert_allclose(image[2, 17:23, 0] / 255, [0.006, 0.067, 0.309, 0.691, 0.933, 0.994], atol=0.01)
    assert (image == image[..., :1]).all() and not image[:, :14].any()


def test_more_sigma_and_less_quality_change_more():
    def changed(function, value: float) -> float:
        image = _noise()
        function(image, value)
        return _error(image, _noise())

    assert 0 < changed(blur_in_place, 0.5) < changed(blur_in_place, 1.5)
    assert 0 < changed(compress_in_place, 90) < changed(compress_in_place, 30)


@pytest.mark.parametrize("colour", [(250, 20, 30), (20, 30, 250)])
def test_colours_stay_in_their_channels(colour):
    image = np.full((16, 16, 3), colour, np.uint8)
    compress_in_place(image, 60)
    np.testing.assert_allclose(image, np.broadcast_to(colour, image.shape), atol=6)


@pytest.mark.parametrize(("function", "value"), [(blur_in_place, 1.0), (compress_in_place, 40)])
def test_only_the_slice_changes_and_only_the_slice_plays_a_part(function, value):
    alone = np.ascontiguousarray(_noise()[:9, :11])
    whole = _noise()
    function(alone, value)
    function(whole[:9, :11], value)
    np.testing.assert_array_equal(whole[:9, :11], alone)
    np.testing.assert_array_equal(whole[9:], _noise()[9:])


def test_strengths_are_drawn_within_their_range():
    rng = np.random.default_rng(0)
    sigmas, qualities = ([draw(rng, 1.0) for _ in range(300)] for draw in (draw_blur, draw_quality))
    assert 0.5 <= min(sigmas) < 0.55 and 1.45 < max(sigmas) <= 1.5
    assert (min(qualities), max(qualities)) == (30, 90)
    assert {draw_blur(rng, 0.0), draw_quality(rng, 0.0)} == {0}
