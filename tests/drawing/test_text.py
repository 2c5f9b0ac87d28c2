"""Names in pictures: every name becomes one short line that the font can draw."""

import numpy as np
import pytest

from lga_jax.drawing import text
from lga_jax.drawing.canvas import font
from lga_jax.drawing.pictures import draw_detections
from lga_jax.drawing.text import drawable, drawable_names

NAMES = ["a\nb", "\x1b[31mred", "x" * 500, "汽车", "자동차", "سيارة", "a\u202eb", "\ud800", "\U000e0001", "😀", ""]


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("red car", "red car"),
        ("Gerät", "Gerät"),
        ("поезд", "поезд"),
        ("a\nb\x1b", r"a\nb\x1b"),
        ("汽车 2", "QiChe 2"),
        ("x" * 41, "x" * 39 + "…"),
        ("x" * 40, "x" * 40),
    ],
)
def test_names_as_they_are_drawn(name, drawn):
    assert drawable(name) == drawn


@pytest.mark.parametrize("joins", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_drawn_with_glyphs_of_the_font_in_one_line(name, joins, monkeypatch):
    monkeypatch.setattr(text, "_writes_right_to_left", lambda: joins)
    drawn = drawable(name)
    assert len(drawn) <= 40 and bool(drawn) == bool(name)
    assert all(ord(c) in text._glyphs() for c in drawn)
    font(12).getlength(drawn)  # raises an error for several lines


def test_letters_from_right_to_left_are_drawn_as_such_only_where_pillow_can_join_them(monkeypatch):
    monkeypatch.setattr(text, "_writes_right_to_left", lambda: True)
    assert drawable("سيارة") == "سيارة"
    monkeypatch.setattr(text, "_writes_right_to_left", lambda: False)
    assert drawable("سيارة").isascii()


def test_names_that_would_look_equal_get_their_ids():
    assert drawable_names({3: "猫", 5: "毛", 7: "dog"}) == {3: "Mao (3)", 5: "Mao (5)", 7: "dog"}


def test_a_picture_of_any_name_is_drawn():
    image = np.full((60, 80, 3), 90, np.uint8)
    names = dict(enumerate(NAMES))
    found = [{"category_id": number, "bbox": (5, 5, 30, 30), "score": 0.9} for number in names]
    assert draw_detections(image, found, names).shape[2] == 3
