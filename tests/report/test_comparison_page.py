"""The comparison as text, page and JSON."""

import json

import pytest

from lga_jax.evaluation.bootstrap import Interval
from lga_jax.evaluation.comparison import Comparison, Scores
from lga_jax.report.comparison_page import comparison_html, format_comparison, write_comparison
from tests.report.analysed import evaluated
from tests.report.browser import check_page, needs_browser, open_page
from tests.report.test_page import text_of

NAN = float("nan")
ANALYSIS = evaluated().analysis


def run(name, ap, difference):
    values = {"AP": Interval(ap, ap - 0.1, ap + 0.1), "AP 起重机": Interval(NAN, NAN, NAN)}
    return Scores(name, 500, values, {"AP": difference, "AP 起重机": Interval(NAN, NAN, NAN)}, ANALYSIS, None)


COMPARISON = Comparison(
    [
        run("runs/<none>", 0.5, Interval(0.0, 0.0, 0.0)),
        run("runs/lga", 0.6, Interval(0.1, 0.02, 0.2)),
        run("runs/cbam", 0.51, Interval(0.01, -0.02, 0.2)),
    ],
    200,
    1000,
    {"model.attention": ["none", "lga", "cbam"], "optim.new": [None, 1, None]},
)
LOG = [{"step": 1, "total": 2.0}, {"step": 2, "total": 1.0}, *({"step": s, "eval": {"AP": s / 9}} for s in (1, 2))]


def test_the_text_has_scores_and_marks_clear_differences():
    lines = format_comparison(COMPARISON).splitlines()
    assert "200 images, 1,000 bootstrap samples" in lines[0] and "A: runs/<none>, step 500" in lines
    scores, differences = [line for line in lines if line.startswith("  AP  ")]
    assert scores.split("  ")[1:] and "0.500 [0.400, 0.600]" in scores and "0.510 [0.410, 0.610]" in scores
    assert "+0.100 [+0.020, +0.200] *" in differences and "+0.010 [-0.020, +0.200]" in differences
    assert differences.count("*") == 1 and not any("nan" in line for line in lines)


def test_the_page_has_runs_scores_curves_and_recipes():
    html = comparison_html(COMPARISON, [LOG, [], LOG])
    text = text_of(html)
    for words in ("A: runs/<none>, step 500", "+0.100 [+0.020, +0.200] *", "model.attentionnonelgacbam", "optim.new1"):
        assert words in text
    assert html.count('<figure class="plot">') == 5 and "://" not in html
    assert comparison_html(COMPARISON, [[]] * 3).count('<figure class="plot">') == 3


def test_masks_have_a_curve_of_their_own():
    runs = [run._replace(segm_analysis=ANALYSIS) for run in COMPARISON.runs]
    html = comparison_html(COMPARISON._replace(runs=runs), [[]] * 3)
    assert "precision and recall of masks" in html and html.count('<figure class="plot">') == 4


def test_equal_recipes_are_said_to_be_equal():
    assert "None." in text_of(comparison_html(COMPARISON._replace(recipes={}), [[]] * 3))


def test_files_are_written(tmp_path):
    paths = write_comparison(COMPARISON, [tmp_path] * 3, str(tmp_path))
    assert [path.name for path in paths] == ["comparison.html", "comparison.json"]
    refuse = dict(parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    content = json.loads(paths[1].read_text(), **refuse)
    assert content["runs"][1]["differences"]["AP"] == {"value": 0.1, "low": 0.02, "high": 0.2}
    assert content["recipes"]["optim.new"] == [None, 1, None]


@needs_browser
def test_a_browser_shows_all_plots(tmp_path):
    seen = open_page(comparison_html(COMPARISON, [LOG, LOG, LOG]), tmp_path, 400, dark=True)
    check_page(seen, 400)
    assert len(seen["plots"]) == 5
