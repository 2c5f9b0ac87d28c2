"""The page of a run that is training."""

import json

import cv2
import numpy as np

from lga_jax.report.watch_page import watch_html, write_watch_page
from tests.report.browser import check_page, needs_browser, open_page
from tests.report.test_page import text_of

LINES = [
    {"step": 10, "total": 2.0, "lr": 0.1, "grad_norm": 1.0},
    {"step": 20, "total": 1.25, "lr": 0.2, "grad_norm": 2.0},
    {"step": 20, "eval": {"AP": 0.5, "AP50": 0.6}},
    {"step": 30, "eval": {"AP": 0.4, "AP50": 0.6}},
]
JPEG = cv2.imencode(".jpg", np.full((60, 80, 3), 90, np.uint8))[1].tobytes()


def test_the_page_has_the_latest_and_the_best_numbers():
    html = watch_html("runs/<mine>", LINES, {"sample_0": JPEG}, 10)
    text = text_of(html.replace('<meta http-equiv="refresh" content="10">', ""))
    for words in ("runs/<mine>", "step30", "loss1.250at step 20", "AP0.400at step 30", "best AP0.500at step 20"):
        assert words in text
    assert 'http-equiv="refresh" content="10"' in html and html.count("<img") == 1
    assert "refresh" not in watch_html("t", LINES, {}, 0)


def test_a_run_that_has_logged_nothing():
    assert "No step is logged yet." in watch_html("t", [], {}, 5)
    assert "best AP" not in watch_html("t", [{"step": 5, "eval": {"AP": None, "AP50": None}}], {}, 5)


def test_the_page_is_written_from_the_files_of_a_workdir(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, LINES)) + '\n{"step": 4')
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "sample_0.jpg").write_bytes(JPEG)
    path = write_watch_page(str(tmp_path), 0, str(tmp_path))
    assert path == tmp_path / "watch.html" and "sample 0" in path.read_text()


@needs_browser
def test_a_browser_shows_the_page(tmp_path):
    seen = open_page(watch_html("t", LINES, {"sample_0": JPEG}, 0), tmp_path, 1400)
    check_page(seen, 1400)
    assert len(seen["plots"]) == 4 and len(seen["images"]) == 1
