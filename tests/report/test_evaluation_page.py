"""The report page: complete, self-contained, and with pictures of everything the set has."""

import math
import re

import numpy as np

from lga_jax.evaluation.evaluate import EvalResult
from lga_jax.evaluation.mask_hits import AttentionStatistics, ChallengeAP
from lga_jax.report.curves import draw_curves
from lga_jax.report.evaluation_page import Picture, choose_images, report_html, write_report

RESULT = EvalResult(
    summary={"AP": 0.512, "AP50": 0.75},
    per_class={"crane <hook>": 0.25, "radar": math.nan},
    detections=[{"image_id": 5, "category_id": 1, "bbox": [4, 4, 20, 20], "score": 0.9}],
    num_images=2,
    num_non_finite=0,
    challenges=[ChallengeAP("plain", 0, 10, 0.8), ChallengeAP("motion_blur", 2, 10, 0.111)],
    attention=AttentionStatistics(7, 0.5, 0.25, (0.5, 0.1), 0.13, 2.0),
)


class Photos:
    class_names, report, fingerprint = ("crane",), (), ""
    records = tuple(type("Record", (), {"image_id": i}) for i in (7, 5))

    def image(self, index):
        assert self.records[index].image_id in (5, 7)
        return np.zeros((40, 40, 3), np.uint8)

    def truth(self):
        return {"images": [{"id": 5, "file_name": "five.jpg"}, {"id": 7}], "annotations": [], "categories": [
            {"id": 1, "name": "crane"}]}  # fmt: skip


def test_the_page_has_everything_and_loads_nothing():
    curves = draw_curves([{"step": 1, "total": 2.0}, {"step": 2, "total": 1.0}])
    picture = Picture("a <b>.png", np.zeros((8, 8, 3), np.uint8))
    page = report_html("runs & more", RESULT, curves, [picture, picture])
    for text in (
        "runs &amp; more",
        "0.512",
        "crane &lt;hook&gt;",
        "motion blur",
        "0.111",
        "a &lt;b&gt;.png",
        "2.00 cells",
    ):
        assert text in page
    assert "crane <hook>" not in page
    sources = re.findall(r'src="([^"]{0,22})', page)
    assert len(sources) == 3 and all(source.startswith("data:image/") for source in sources)
    assert "http" not in re.sub(r"base64,[^\"]+", "", page)


def test_without_attention_and_curves_the_page_is_shorter():
    page = report_html("t", RESULT._replace(attention=None, challenges=[]), None, [])
    assert "Attention" not in page and "Training" not in page and "challenge" not in page


def test_the_report_of_a_workdir_shows_its_pictures(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "total": 2.0}\n')
    (tmp_path / "scores").mkdir()
    places = dict(workdir=str(tmp_path), output=str(tmp_path / "scores"))
    page = write_report(RESULT, Photos(), **places, title="title").read_text()
    assert "<figcaption>five.jpg</figcaption>" in page and "<figcaption>7</figcaption>" in page
    assert "Training" in page
    assert [path.name for path in (tmp_path / "scores").iterdir()] == ["report.html"]


def test_pictures_show_detections_with_a_score_of_at_least_one_half(tmp_path):
    (tmp_path / "none").mkdir()

    def pictures(*scores):
        detections = [RESULT.detections[0] | {"score": score} for score in scores]
        result = RESULT._replace(detections=detections)
        places = dict(workdir=str(tmp_path / "none"), output=str(tmp_path))
        page = write_report(result, Photos(), **places, title="title").read_text()
        return re.findall(r'src="(data:image/jpeg[^"]+)"', page)

    nothing = pictures()
    assert len(nothing) == 2
    assert pictures(0.49, 0.1) == nothing
    with_one = pictures(0.5)
    assert with_one[0] != nothing[0] and with_one[1] == nothing[1]  # it is of the first image
    assert pictures(0.5, 0.49) == with_one


def test_images_are_chosen_from_all_challenges_in_turn():
    images = [{"challenge": "plain", "severity": 0}] * 5 + [{"challenge": "scale", "severity": s} for s in (1, 3, 3)]
    assert choose_images(images, 4) == [0, 5, 6, 1]
    assert sorted(choose_images(images, 20)) == list(range(8))


def test_images_without_challenges_are_spread_evenly():
    assert choose_images([{"id": i} for i in range(11)], 3) == [0, 5, 10]
    assert choose_images([{"id": 0}], 24) == [0]
    assert choose_images([], 24) == []
