import numpy as np
import pytest

from lga_jax.data.augment.window import Window, cut_boxes, draw_window
from lga_jax.data.source import Record

SIDES = (60, 100)


def _record(hw: tuple[int, int], boxes: list[list[float]], crowd: list[bool] | None = None) -> Record:
    labels = np.zeros(len(boxes), np.int32)
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Record(0, *hw, array, labels, np.array(crowd or [False] * len(boxes), bool))


def _draw(record: Record, count: int = 200, probability: float = 1.0) -> list[Window | None]:
    rng = np.random.default_rng(0)
    return [draw_window(rng, record, probability, SIDES) for _ in range(count)]


def test_a_window_contains_an_object_and_has_the_shape_of_the_image():
    objects = [[10, 20, 40, 50], [700, 350, 760, 390]]
    windows = _draw(_record((400, 800), objects))
    chosen = []
    for y, x, height, width in windows:
        assert SIDES[0] <= height <= SIDES[1] and width == pytest.approx(2 * height, abs=2)
        assert 0 <= y <= 400 - height and 0 <= x <= 800 - width
        (whole,) = [
            n
            for n, (x1, y1, x2, y2) in enumerate(objects)
            if x <= x1 and x2 <= x + width and y <= y1 and y2 <= y + height
        ]
        chosen.append(whole)
    assert abs(sum(chosen) - 100) < 30  # each as often as the other
    assert np.std([window.x for window, one in zip(windows, chosen, strict=True) if one]) > 10  # not in the middle


def test_an_object_that_is_larger_makes_its_window_larger():
    for window in _draw(_record((400, 800), [[100, 50, 500, 110]]), 30):
        assert window.height == 200 and window.width == 400
        assert window.x == 100 and 0 <= window.y <= 50


def test_images_no_larger_than_a_window_are_seen_whole():
    assert _draw(_record((60, 80), [[1, 1, 9, 9]]), 9) == [None] * 9
    assert _draw(_record((400, 800), [[0, 0, 790, 400]]), 9) == [None] * 9


def test_crowds_are_no_objects_and_images_without_objects_show_any_part():
    for record in (_record((400, 800), []), _record((400, 800), [[0, 0, 20, 20]], [True])):
        windows = _draw(record)
        assert np.mean([window.x + window.width / 2 for window in windows]) == pytest.approx(400, abs=40)
        assert np.std([window.x for window in windows]) > 100


def test_the_probability_is_kept():
    windows = _draw(_record((400, 800), [[0, 0, 20, 20]]), 800, probability=0.25)
    assert abs(sum(window is not None for window in windows) - 200) < 50


def test_boxes_are_clipped_and_lost_if_less_than_half_is_left():
    boxes = np.array([[10, 10, 20, 20], [0, 10, 20, 20], [0, 10, 19, 20], [40, 40, 50, 50]], np.float32)
    cut = cut_boxes(boxes, Window(y=5, x=10, height=30, width=40))
    np.testing.assert_array_equal(cut, [[0, 5, 10, 15], [0, 5, 10, 15], [0, 0, 0, 0], [0, 0, 0, 0]])
