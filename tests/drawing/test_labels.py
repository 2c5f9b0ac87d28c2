"""Plates with names: on the canvas, apart from each other, readable."""

import numpy as np
import pytest

from lga_jax.drawing.canvas import make_canvas
from lga_jax.drawing.labels import Label, draw_labels, draw_tile, draw_unreadable

RED, BLUE, YELLOW = (255, 0, 0), (0, 0, 160), (255, 240, 120)
GREY = np.full((160, 200, 3), 90, np.uint8)


def where(picture, colour, tolerance=3):
    """(left, top, right, bottom) of a colour, exclusive, and its number of pixels."""
    mask = (np.abs(picture.astype(int) - colour) <= tolerance).all(axis=-1)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), mask.sum()


def test_a_plate_stands_above_its_box():
    (left, _, _, bottom), _ = where(draw_labels(make_canvas(GREY), [Label((20, 60, 60, 80), "crane", RED)]), RED)
    assert left == pytest.approx(80, abs=4) and 230 <= bottom <= 241  # the box begins at (80, 240)


@pytest.mark.parametrize("bbox", [(20, 0, 60, 80), (150, 60, 50, 80), (-40, -40, 500, 500), (0, 0, 200, 160)])
def test_a_plate_stays_on_the_canvas_whole(bbox):
    inside = where(draw_labels(make_canvas(GREY), [Label((60, 60, 60, 80), "crane", RED)]), RED)[1]
    assert where(draw_labels(make_canvas(GREY), [Label(bbox, "crane", RED)]), RED)[1] == pytest.approx(inside, rel=0.1)


def test_plates_of_equal_boxes_do_not_cover_each_other():
    labels = [Label((60, 60, 60, 50), "crane", RED), Label((60, 60, 60, 50), "crane", BLUE)]
    picture = draw_labels(make_canvas(GREY), labels)
    (left, top, right, bottom), count = where(picture, RED)
    (left2, top2, right2, bottom2), count2 = where(picture, BLUE)
    assert bottom <= top2 or bottom2 <= top or right <= left2 or right2 <= left
    assert count2 == pytest.approx(count, rel=0.1)


@pytest.mark.parametrize(("colour", "ink"), [(YELLOW, 0), (BLUE, 255)])
def test_letters_are_black_on_bright_plates_and_white_on_dark_ones(colour, ink):
    picture = draw_labels(make_canvas(GREY), [Label((20, 60, 60, 80), "crane", colour)])
    (left, top, right, bottom), _ = where(picture, colour)
    plate = picture[top:bottom, left:right].astype(int)
    assert (np.abs(plate - ink).max(axis=-1) < 10).sum() > 50
    assert (np.abs(plate - (255 - ink)).max(axis=-1) < 10).sum() == 0


@pytest.mark.parametrize("hw", [(80, 40), (40, 80), (700, 350), (1, 500)])
def test_a_tile_has_the_long_edge_that_was_asked_for(hw):
    tile = draw_tile(np.full((*hw, 3), 90, np.uint8), [], 100)
    assert max(tile.shape[:2]) == 100
    assert min(tile.shape[:2]) == max(1, round(100 * min(hw) / max(hw)))


def test_boxes_of_a_tile_are_scaled_with_it_and_named_where_they_have_a_name():
    image = np.full((50, 100, 3), 90, np.uint8)
    unnamed = draw_tile(image, [Label((10, 10, 40, 30), "", RED)], 400)
    extent, _ = where(unnamed, RED, tolerance=60)
    np.testing.assert_allclose(extent, (40, 40, 200, 160), atol=2)
    assert where(draw_tile(image, [Label((10, 10, 40, 30), "crane", RED)], 400), RED)[1] > where(unnamed, RED)[1] + 300


def test_dashed_boxes_of_a_tile_have_gaps():
    image = np.full((50, 100, 3), 90, np.uint8)
    sides = [
        (np.abs(draw_tile(image, [Label((10, 10, 80, 30), "", RED, dashed)], 400)[40, 40:360].astype(int) - RED) < 60)
        .all(axis=-1)
        .mean()
        for dashed in (False, True)
    ]
    assert sides[0] > 0.98 and 0.2 < sides[1] < 0.8


def test_an_unreadable_image_is_grey_in_its_shape_and_says_so():
    picture = draw_unreadable((300, 600), 200)
    assert picture.shape == (100, 200, 3)
    assert (picture == 128).all(axis=-1).mean() > 0.7 and (picture > 230).any()
