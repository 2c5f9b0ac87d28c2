"""Anti-aliased shapes: where they lie, in coordinates of the image."""

import numpy as np
import pytest

from lga_jax.drawing.canvas import (
    corners,
    draw_box,
    draw_dashed_box,
    draw_dot,
    draw_ellipse,
    font,
    make_canvas,
    tint_ellipse,
)

RED = (255, 0, 0)
GREY = 90


@pytest.fixture
def canvas():
    """Of an image of 160 x 200 pixels: four canvas pixels for each."""
    return make_canvas(np.full((160, 200, 3), GREY, np.uint8))


def redness(canvas):
    """Where the canvas is red, as a mask."""
    return (np.abs(canvas.pixels.astype(int) - RED) < 60).all(axis=-1)


def extent(mask):
    """(left, top, right, bottom) of a mask, exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


@pytest.mark.parametrize(
    ("hw", "scale"), [((1, 1), 4), ((160, 160), 4), ((200, 300), 3), ((480, 640), 1), ((2000, 3000), 1)]
)
def test_small_images_are_enlarged_by_whole_numbers(hw, scale):
    canvas = make_canvas(np.zeros((*hw, 3), np.uint8))
    assert canvas.scale == scale and canvas.pixels.shape[:2] == (hw[0] * scale, hw[1] * scale)


def test_the_image_itself_is_not_drawn_on():
    image = np.full((700, 700, 3), GREY, np.uint8)
    draw_box(make_canvas(image), (10, 10, 300, 300), RED)
    assert (image == GREY).all()


def test_corners():
    np.testing.assert_array_equal(corners((1, 2, 30, 40)), [[1, 2], [31, 42]])


def test_a_box_runs_along_its_sides_and_is_empty(canvas):
    draw_box(canvas, (20, 40, 100, 60), RED)
    np.testing.assert_allclose(extent(redness(canvas)), (80, 160, 480, 400), atol=canvas.line)
    assert (canvas.pixels[180:380, 100:460] == GREY).all()


def test_a_dashed_box_has_gaps_of_the_length_of_its_dashes(canvas):
    draw_dashed_box(canvas, (20, 40, 100, 60), RED, dash=4)
    side = redness(canvas)[160, 80:480]
    assert 0.3 < side.mean() < 0.7
    dashes = np.diff(side.astype(int)).clip(0).sum()
    assert dashes == pytest.approx(400 / (2 * 4 * (canvas.line + 1)), abs=2)
    np.testing.assert_allclose(extent(redness(canvas)), (80, 160, 480, 400), atol=canvas.line)


def test_a_white_dashed_box_is_visible_on_a_bright_image():
    canvas = make_canvas(np.full((200, 200, 3), 255, np.uint8))
    draw_dashed_box(canvas, (20, 40, 100, 60), (255, 255, 255), dash=4)
    side = canvas.pixels[40 * canvas.scale, 20 * canvas.scale : 120 * canvas.scale].min(axis=1)
    assert 0.3 < (side < 60).mean() < 0.7 and (side > 200).mean() > 0.2  # dark gaps between bright dashes


def test_a_tint_fills_an_ellipse_and_mixes_colours(canvas):
    tint_ellipse(canvas, (100, 80), (30, 20), RED, opacity=0.5)
    changed = (canvas.pixels != GREY).any(axis=-1)
    np.testing.assert_allclose(extent(changed), (280, 240, 520, 400), atol=2)
    assert changed.sum() == pytest.approx(np.pi * 120 * 80, rel=0.04)
    np.testing.assert_allclose(canvas.pixels[320, 400], (0.5 * 255 + 0.5 * GREY, 0.5 * GREY, 0.5 * GREY), atol=1)


@pytest.mark.parametrize("centre", [(3, 80), (199, 1), (-20, 170)])
def test_a_tint_at_the_edge_is_that_of_a_larger_image(centre):
    image = np.random.default_rng(0).integers(0, 255, (160, 200, 3), dtype=np.uint8)
    canvas = make_canvas(image)
    larger = canvas._replace(pixels=np.pad(canvas.pixels, ((240, 240), (240, 240), (0, 0))))  # 60 pixels of the image
    tint_ellipse(canvas, centre, (30, 20), RED, opacity=0.5)
    tint_ellipse(larger, np.add(centre, 60).tolist(), (30, 20), RED, opacity=0.5)
    inner, same = canvas.pixels[2:-2, 2:-2], larger.pixels[242:-242, 242:-242]  # OpenCV rounds off at the border
    np.testing.assert_array_equal(inner, same)


def test_a_tint_outside_the_image_changes_nothing(canvas):
    tint_ellipse(canvas, (300, 80), (30, 20), RED, opacity=0.5)
    assert (canvas.pixels == GREY).all()


def test_an_ellipse_is_its_outline(canvas):
    draw_ellipse(canvas, (100, 80), (30, 20), RED)
    np.testing.assert_allclose(extent(redness(canvas)), (280, 240, 520, 400), atol=canvas.line)
    assert tuple(canvas.pixels[320, 400]) == (GREY,) * 3


def test_a_dot_is_round_and_smaller_on_a_small_object(canvas):
    draw_dot(canvas, (50, 60), RED, room=100)
    large = redness(canvas)
    left, top, right, bottom = extent(large)
    assert (left + right, top + bottom) == pytest.approx((400, 480), abs=2)
    draw_dot(canvas, (150, 60), RED, room=6)
    assert 0 < (redness(canvas) & ~large).sum() < 0.7 * large.sum()


def test_a_font_is_made_once_for_each_size():
    assert font(12) is font(12) and font(12).size == 12 != font(20).size
