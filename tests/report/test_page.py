"""What the HTML pages are made of."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import cv2
import numpy as np

from lga_jax.report.page import data_url, figure, histogram, page, table

MARKUP = 'a <b> & "c"'


class Balance(HTMLParser):
    """Counts tags that are open."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def text_of(html):
    """The text between the tags, which must be balanced."""
    parser = Balance()
    parser.feed(html)
    assert parser.open == []
    return parser.text


def test_a_page_is_balanced_has_its_title_and_loads_nothing():
    html = page(MARKUP, ["<p>one</p>", "<p>two</p>"])
    assert html.startswith("<!doctype html>") and 'charset="utf-8"' in html
    assert MARKUP in text_of(html) and "<b>" not in html
    assert html.index("one") < html.index("two")
    assert "://" not in html and "src=" not in html


def test_a_table_has_its_cells_in_order_as_text():
    html = table("title", ["name", "x", "y"], [(MARKUP, ["1", "2"]), ("b", ["3", "4"])])
    assert text_of(html) == f"titlenamexy{MARKUP}12b34"
    assert html.count("<tr>") == 3 and html.count("<th>") == 3 and html.count("<td>") == 6
    assert table("title", [], [("b", ["3"])]).count("<tr>") == 1


def test_bars_of_a_histogram_are_in_percent_of_the_longest():
    html = histogram("title", {MARKUP: 4000, "b": 1000, "c": 0})
    assert re.findall(r"width:([\d.]+)%", html) == ["100.0", "25.0", "0.0"]
    assert text_of(html) == f"title{MARKUP}4,000b1,000c0"


def test_a_histogram_of_nothing_has_bars_without_length():
    assert re.findall(r"width:([\d.]+)%", histogram("title", {"a": 0})) == ["0.0"]
    assert "<tr>" not in histogram("title", {})


def test_a_figure_holds_the_picture_in_its_colours():
    image = np.zeros((16, 24, 3), np.uint8)
    image[:, :12, 0] = 250  # red
    html = figure(MARKUP, image)
    assert text_of(html) == MARKUP
    encoded = re.search(r'src="data:image/jpeg;base64,([^"]+)"', html)[1]
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture.shape == image.shape
    assert np.abs(picture[8, 4].astype(int) - (250, 0, 0)).max() < 12 and picture[8, 20].max() < 12


def test_a_data_url_holds_the_bytes():
    assert data_url(b"\x00\xff", "png") == "data:image/png;base64,AP8="


def test_a_browser_runs_the_pages_own_script_only():
    hostile = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    whole = page(
        hostile, [table(hostile, [hostile], [(hostile, [hostile])]), figure(hostile, np.zeros((2, 2, 3), np.uint8))]
    )
    (script,) = re.findall("<script>(.*?)</script>", whole, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]*)"', whole)[1]
    assert f"script-src 'sha256-{digest}'" in policy and policy.startswith("default-src 'none';")
    assert "onerror" not in re.sub("&lt;.*?&gt;", "", whole)
