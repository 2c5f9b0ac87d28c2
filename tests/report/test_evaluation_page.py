"""The report page: complete, self-contained, and drawn by a browser."""

import re

import numpy as np
import pytest

from lga_jax.evaluation.mask_hits import AttentionStatistics, ChallengeAP
from lga_jax.report.curves import training_plots
from lga_jax.report.evaluation_page import report_html, write_report
from lga_jax.report.mistake_pictures import Picture, Sheet
from tests.report.analysed import NAMES, Photos, evaluated, evaluated_masks
from tests.report.browser import check_page, needs_browser, open_page
from tests.report.test_page import text_of

RESULT = evaluated()._replace(
    challenges=[ChallengeAP("plain", 0, 10, 0.8), ChallengeAP("motion_blur", 2, 10, 0.111)],
    attention=AttentionStatistics(7, 0.5, 0.25, (0.5, 0.1), 0.13, 2.0),
)
LINES = (
    '{"step": 1, "total": 2.0, "grad_norm": 3.0, "lr": 0.01}\n{"step": 2, "total": 1.5, "grad_norm": 9.0, "lr": 0.02}\n'
    '{"step": 1, "eval": {"AP": 0.1, "AP50": 0.3}}\n{"step": 2, "eval": {"AP": 0.2, "AP50": 0.5}}\n'
)


def test_the_page_has_everything_and_loads_nothing():
    training = training_plots([{"step": 1, "total": 2.0}, {"step": 2, "total": 1.0}])
    picture = Picture("a <b>.png", np.zeros((8, 8, 3), np.uint8))
    page = report_html(
        "runs & more", RESULT, training, [Sheet("Some", "all", [picture, picture]), Sheet("None", "", [])]
    )
    text = text_of(page)
    for words in ("runs & more", NAMES[0], "motion blur", "0.111", "a <b>.png", "2.00 cells", "What goes wrong"):
        assert words in text
    assert "<hook>" not in page and "None" not in text
    sources = re.findall(r'src="([^"]{0,22})', page)
    assert len(sources) == 2 and all(source.startswith("data:image/") for source in sources)
    assert "://" not in re.sub(r"base64,[^\"]+", "", page)
    assert page.index("best score threshold") < page.index("What goes wrong") < page.index("COCO metrics")


def test_masks_have_their_scores_errors_and_curves():
    result = evaluated_masks()
    text = text_of(report_html("t", result, [], []))
    for words in (
        f"AP of masks{result.summary['segm/AP']:.3f}",
        "the same: object masks",
        "poor mask: ",
        "precision and recall by IoU of the masks",
        "mask AP50",
    ):
        assert words in text and words not in text_of(report_html("t", evaluated(), [], []))
    assert text.count(f"{result.segm_per_class[NAMES[1]]:.3f}") >= 1


def test_without_analysis_attention_and_curves_the_page_is_shorter():
    page = report_html("t", RESULT._replace(attention=None, challenges=[], analysis=None), [], [])
    for words in ("Attention", "Training", "challenge", "goes wrong"):
        assert words not in page
    assert "AP per class" in page


def test_many_large_pictures_fit_into_ten_megabytes():
    noise = np.random.default_rng(0).integers(0, 255, (700, 700, 3), np.uint8)
    page = report_html("t", RESULT, [], [Sheet("noise", "", [Picture("", noise)] * 24)])
    assert 2e6 < len(page) < 10e6 and page.count("<img") == 24


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    (folder / "metrics.jsonl").write_text(LINES)
    (folder / "scores").mkdir()
    path = write_report(RESULT, Photos(), workdir=str(folder), output=str(folder / "scores"), title="a title")
    assert [path.name for path in (folder / "scores").iterdir()] == ["report.html"]
    return path.read_text()


def test_the_report_of_a_workdir_shows_its_curves_and_pictures(report):
    text = text_of(report)
    assert "four.jpg: 2 objects" in text and "Training" in text and "learning rate" in text


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(400, True), (1400, False)])
def test_a_browser_shows_all_plots_and_pictures(report, tmp_path, width, dark):
    seen = open_page(report, tmp_path, width, dark)
    check_page(seen, width)
    assert len(seen["plots"]) == 8 and len(seen["images"]) > 6
    assert seen["ink"] == {True: "rgb(255, 255, 255)", False: "rgb(0, 0, 0)"}[dark]
    assert {plot["axis"] for plot in seen["plots"]} == {seen["ink"]}
    assert seen["zoomed"][0] == seen["images"][0][0] > seen["back"][0]  # a click shows all pixels
