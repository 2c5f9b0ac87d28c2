"""Pictures of detections: what stands where, found by its colour."""

import numpy as np
import pytest
from pycocotools import mask as coco_masks

from lga_jax.drawing.pictures import class_colours, draw_detections, mask_colour

GREY = np.full((160, 200, 3), 90, np.uint8)  # enlarged four times
NAMES = {3: "crane", 7: "mixer"}


def found(bbox, category=3, score=0.9, centres=(), sigmas=()):
    return {"bbox": bbox, "category_id": category, "score": score} | {"mask_centres": centres, "mask_sigmas": sigmas}


def at(picture, x, y, scale=4):
    """The colour in the middle of the pixel (x, y) of the original image."""
    return tuple(picture[round((y + 0.5) * scale), round((x + 0.5) * scale)].tolist())


def is_near(picture, colour, x, y, reach=6, tolerance=12):
    """Whether a colour stands within `reach` picture pixels of the point (x, y) of the original image."""
    row, column = round(y * 4), round(x * 4)
    window = picture[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
    return bool((np.abs(window.astype(int) - colour).max(-1) < tolerance).any())


def test_an_image_without_detections_is_only_enlarged():
    picture = draw_detections(GREY, [], NAMES)
    assert picture.shape == (640, 800, 3) and picture.dtype == np.uint8
    assert (picture == 90).all()


def test_a_box_has_the_colour_of_its_class_and_the_image_stays_as_it_was():
    image = GREY.copy()
    picture = draw_detections(image, [found([20, 40, 60, 80], category=7)], NAMES)
    colour = class_colours(NAMES)[7]
    for x, y in ((20, 80), (80, 80), (50, 40), (50, 120)):  # the middle of each side
        assert is_near(picture, colour, x, y)
    assert at(picture, 50, 80) == (90, 90, 90)  # within
    assert at(picture, 150, 80) == (90, 90, 90)  # beside
    assert (image == 90).all()


def test_masks_have_a_dot_a_tint_and_a_rim_in_the_colour_of_their_number():
    detection = found([20, 40, 100, 100], centres=[[50, 70], [100, 120]], sigmas=[[12, 8], [10, 10]])
    picture = draw_detections(GREY, [detection], NAMES)
    for number, (x, y, reach) in enumerate([(50, 70, 12), (100, 120, 10)]):
        assert is_near(picture, mask_colour(number), x, y, reach=1)
        assert is_near(picture, mask_colour(number), x + reach, y, reach=1, tolerance=100)  # anti-aliased
        tint = np.array(at(picture, x + 0.6 * reach, y))
        np.testing.assert_allclose(tint, 0.2 * np.array(mask_colour(number)) + 0.8 * 90, atol=2)
    assert at(picture, 70, 70) == (90, 90, 90)  # beyond sigma x
    assert at(picture, 50, 82) == (90, 90, 90)  # beyond sigma y


def test_a_strip_below_explains_masks_and_truth_only_where_there_are_some():
    masked = found([20, 40, 60, 80], centres=[[50, 70]], sigmas=[[9, 9]])
    assert draw_detections(GREY, [found([20, 40, 60, 80])], NAMES).shape == (640, 800, 3)
    strip = draw_detections(GREY, [masked], NAMES)[640:]
    assert 20 <= len(strip) <= 40
    assert (np.abs(strip.astype(int) - mask_colour(0)).max(-1) < 12).any()
    assert len(draw_detections(GREY, [], NAMES, [{"bbox": [1, 2, 30, 40]}])) > 640


def test_truth_is_dashed_white():
    picture = draw_detections(GREY, [], NAMES, [{"bbox": [20, 40, 100, 100], "part_bbox": [30, 50, 20, 20]}])
    side = picture[160, 80:480]  # the upper side of the box
    white = (side > 240).all(-1)
    assert 0.3 < white.mean() < 0.8
    assert np.diff(white.astype(int)).clip(0).sum() > 5  # dashes
    assert is_near(picture, (255, 255, 255), 40, 50)  # the part


def test_the_score_and_name_stand_on_a_plate_above_the_box():
    picture = draw_detections(GREY, [found([20, 60, 60, 80])], NAMES)
    colour = np.array(class_colours(NAMES)[3])
    plate = (np.abs(picture[:230].astype(int) - colour).max(-1) < 3).any(axis=1)
    assert plate.sum() > 10
    other = draw_detections(GREY, [found([20, 60, 60, 80], score=0.8)], NAMES)
    assert (picture != other).any()


@pytest.mark.parametrize(
    "bbox", [[-30, -20, 60, 50], [180, 140, 90, 90], [0, 0, 200, 160], [50, 50, 0, 0], [-90, 5, 5, 5]]
)
def test_boxes_at_and_beyond_the_edge_are_drawn_without_fault(bbox):
    detection = found(bbox, centres=[[bbox[0], bbox[1]]], sigmas=[[200, 0.01]])
    assert draw_detections(GREY, [detection], NAMES, [{"bbox": bbox}]).shape[1:] == (800, 3)


def test_names_of_neighbours_do_not_cover_each_other():
    """Two boxes in the same place: both plates are whole, so each colour fills at least a plate's area."""
    picture = draw_detections(GREY, [found([60, 60, 60, 50]), found([60, 60, 60, 50], category=7, score=0.8)], NAMES)
    for colour in class_colours(NAMES).values():
        assert (np.abs(picture.astype(int) - colour).max(-1) < 3).sum() > 1500


def test_eighty_classes_have_eighty_colours():
    colours = class_colours({i: str(i) for i in range(80)})
    assert len(set(colours.values())) == 80


@pytest.mark.parametrize("grey", [10, 245])
def test_an_object_mask_is_seen_on_dark_and_on_bright_images(grey):
    """A disc of 30 pixels: tinted inside, with an outline in the colour of its class and a dark rim around it."""
    image = np.full_like(GREY, grey)
    rows, columns = np.mgrid[:160, :200]
    disc = np.hypot(rows - 80, columns - 100) <= 30
    rle = coco_masks.encode(np.asfortranarray(disc.astype(np.uint8)))
    detection = found([70, 50, 61, 61]) | {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}}
    picture, colour = draw_detections(image, [detection], NAMES), np.array(class_colours(NAMES)[3])
    np.testing.assert_allclose(at(picture, 100, 80), 0.6 * grey + 0.4 * colour, atol=1.5)
    assert at(picture, 75, 55) == (grey,) * 3  # in the box, outside the disc
    assert is_near(picture, colour, 100 + 30 * 0.71, 80 + 30 * 0.71, tolerance=40)
    assert is_near(picture, (16, 16, 16), 100 + 30 * 0.71, 80 + 30 * 0.71, tolerance=60)
    nothing = coco_masks.encode(np.zeros((160, 200), np.uint8, order="F"))
    empty = found([70, 50, 61, 61]) | {"segmentation": nothing}
    assert at(draw_detections(image, [empty], NAMES), 100, 80) == (grey,) * 3
