"""Close-ups below a picture: which region, whose colour, in which order."""

import numpy as np

from lga_jax.drawing.close_ups import SIDE, close_up, draw_close_ups
from lga_jax.drawing.pictures import mask_colour

NAMES = {3: "crane", 7: "mixer"}
RED, BLUE = (200, 0, 0), (0, 0, 200)


def image():
    """Grey, with a red square around (50, 40) and a blue one around (150, 100)."""
    picture = np.full((160, 200, 3), 90, np.uint8)
    picture[25:55, 35:65] = RED
    picture[85:115, 135:165] = BLUE
    return picture


def found(score=0.9, category=3, centres=((50.0, 40.0), (150.0, 100.0)), sigmas=((10.0, 10.0), (10.0, 10.0))):
    return {"category_id": category, "score": score, "mask_centres": centres, "mask_sigmas": sigmas}


def test_a_close_up_is_the_region_of_its_mask_in_its_colour():
    for mask, colour in enumerate((RED, BLUE)):
        square = close_up(image(), found(), mask, 60, 3)
        assert square.shape == (60, 60, 3)
        assert tuple(square[1, 30]) == mask_colour(mask)
        assert (square[8:-8, 8:-8] == colour).all()  # mu +- 1.5 sigma, 30 pixels of the image


def test_a_larger_sigma_shows_more():
    square = close_up(image(), found(sigmas=((20.0, 10.0),) * 2), 0, 63, 3)  # 60 x 30 pixels
    red = (square[3:-3, 3:-3] == RED).all(-1)
    assert red[8:-8, 19:-19].all() and not red[:, :13].any() and not red[:, -13:].any()


def test_outside_of_the_image_it_is_black():
    square = close_up(image(), found(centres=((0.0, 0.0),), sigmas=((10.0, 10.0),)), 0, 60, 3)
    assert tuple(square[10, 10]) == (0, 0, 0) and tuple(square[50, 50]) == (90, 90, 90)


def test_the_best_detection_comes_first():
    low = found(0.4, centres=((50.0, 40.0),), sigmas=((10.0, 10.0),))
    best = found(0.8, centres=((150.0, 100.0),), sigmas=((10.0, 10.0),))
    sheet = draw_close_ups(image(), [low, best], NAMES, 640)
    assert sheet.shape[1] == 640
    middle = -6 - SIDE // 2  # of the only row
    assert tuple(sheet[middle, 6 + SIDE // 2]) == BLUE
    assert tuple(sheet[middle, 6 + SIDE + 6 + SIDE // 2]) == RED


def test_cells_wrap_to_the_width():
    both = [found(0.9), found(0.8, category=7)]
    heights = {width: draw_close_ups(image(), both, NAMES, width).shape[0] for width in (640, 240)}
    assert heights[240] == 2 * heights[640] - 6  # the rows share a gap


def test_a_cell_that_is_too_wide_is_reduced():
    sheet = draw_close_ups(image(), [found()], NAMES, 110)
    assert sheet.shape[1] == 110 and sheet.shape[0] < SIDE
    assert all((sheet == colour).all(-1).any() for colour in (RED, BLUE))


def test_nothing_is_drawn_without_masks():
    assert draw_close_ups(image(), [found(centres=(), sigmas=())], NAMES, 640).shape == (0, 640, 3)
    assert draw_close_ups(image(), [], NAMES, 640).shape == (0, 640, 3)
