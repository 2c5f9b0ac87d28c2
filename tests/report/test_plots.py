"""Plots as SVG: their lines, and what a browser shows of them."""

import re

import numpy as np
import pytest

from lga_jax.report.page import page
from lga_jax.report.plots import TEXT_COLOUR, Curve, Marks, line_plot, plots
from tests.report.browser import check_page, needs_browser, open_page
from tests.report.test_page import text_of

X = np.linspace(0, 1, 11)
CURVE = Curve("类 <a>", X, 1 - X, "#2f7ed8")


def line_of(html, colour):
    """Points of the line of a colour, in the coordinates of the drawing (y downwards)."""
    ((points, _),) = re.findall(r'<path d="([^"]+)"[^>]*style="fill: none; stroke: (' + colour + ")", html)
    return np.array(re.findall(r"([\d.]+) ([\d.]+)", points), float)


def test_a_plot_holds_its_texts_as_text_and_its_line_to_scale():
    html = line_plot("title & more", [CURVE], ("recall", "precision"), unit=(True, True), note="a note")
    for text in ("title & more", "类 <a>", "recall", "precision", "a note"):
        assert text in text_of(html)
    points = line_of(html, "#2f7ed8")
    assert len(points) == 11
    np.testing.assert_allclose(np.diff(points, axis=0), np.broadcast_to((24.54, 16.58), (10, 2)), atol=0.02)
    assert "://" not in html and "<a>" not in html


def test_a_missing_value_leaves_a_gap_and_dots_stand_at_the_points():
    y = np.where(np.arange(11) == 4, np.nan, X)
    html = line_plot("t", [CURVE._replace(y=y, dots=True)], ("x", "y"))
    line, dots = re.findall(r'<path d="([^"]+)" style="fill: none; stroke: #2f7ed8', html)
    assert (line.count("M"), line.count("L")) == (2, 8) and dots.count("h0") == 10


def test_of_very_many_points_the_lowest_and_highest_remain():
    steps = np.arange(50_000.0)
    y = np.where(steps == 20_000, 4.0, 2.0 + 0.1 * np.sin(steps))
    points = line_of(line_plot("t", [Curve("", steps, y, "#2f7ed8")], ("x", "y")), "#2f7ed8")
    assert len(points) < 1100
    scale = (points[:, 1].max() - points[:, 1].min()) / (4.0 - 1.9)  # coordinates of a unit
    assert points[0, 1] - points[:, 1].min() == pytest.approx(2.0 * scale, abs=0.2 * scale)
    x, _ = points[points[:, 1].argmin()]
    assert (x - points[0, 0]) / (points[-1, 0] - points[0, 0]) == pytest.approx(0.4, abs=0.01)


def test_values_beyond_an_axis_are_drawn_at_its_end():
    points = line_of(line_plot("t", [CURVE._replace(y=4 * X - 1)], ("x", "y"), unit=(True, True)), "#2f7ed8")
    assert points[:3, 1].tolist() == [175.39] * 3 and points[-4:, 1].tolist() == [6.26] * 4


def test_axes_and_text_have_the_colour_of_the_page():
    html = line_plot("t", [CURVE._replace(colour=TEXT_COLOUR)], ("x", "y"), marks=Marks(vertical=0.5, diagonal=True))
    assert "#010203" not in html and html.count("stroke: currentColor") > 4


def test_the_same_plot_is_the_same_text():
    assert line_plot("t", [CURVE], ("x", "y")) == line_plot("t", [CURVE], ("x", "y"))


def test_ticks_are_short():
    html = line_plot("t", [CURVE._replace(y=2.5e-4 * (1 - X))], ("x", "y"))
    assert ">0.0002<" in html and "e−" not in html
    logged = line_plot("t", [CURVE._replace(y=10 ** (1 - X))], ("x", "y"), log=True)
    assert all((f">{tick}<" in logged) == (tick in (1, 2, 5, 10)) for tick in range(1, 11))
    narrow = line_plot("t", [CURVE._replace(y=5 + 4 * X)], ("x", "y"), log=True)
    assert all(f">{tick}<" in narrow for tick in range(5, 10))


def test_a_plot_of_nothing_is_drawn():
    assert "<svg" in line_plot("t", [], ("x", "y"), marks=Marks(vertical=np.nan))
    assert line_plot("t", [CURVE._replace(y=np.full(11, np.nan))], ("x", "y"))
    none = np.zeros(0)  # the curve of a class without detections
    assert 'd=""' in line_plot("t", [CURVE._replace(x=none, y=none, dots=True)], ("x", "y"))


@needs_browser
def test_a_browser_sees_a_blank_plot_and_an_error_of_a_script(tmp_path):
    blank = line_plot("t", [CURVE._replace(y=np.full(11, np.nan))], ("x", "y"))
    seen = open_page(page("t", [plots([blank]), "<script>undefinedName()</script>"]), tmp_path)
    assert len(seen["errors"]) == 1 and "undefinedName" in seen["errors"][0]
    with pytest.raises(AssertionError, match="without a line"):
        check_page(seen | {"errors": []}, 1400)
