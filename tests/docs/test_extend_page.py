"""The program of docs/extend.md runs: parts of one's own in a detector, trained for two steps and scored."""

import math
import re
from pathlib import Path

import pytest

import lga_jax
from lga_jax import recipe as recipes
from lga_jax.data.source import Scored, Source
from lga_jax.models.backbones import Backbone
from lga_jax.models.roi.attention import RegionAttention
from tests import tiny_run

PAGE = Path(__file__).parents[2] / "docs" / "extend.md"


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the page has defined at its end."""
    config = tiny_run.recipe()
    config.update(num_steps=2, batch_size=4, checkpoint_every=2, eval_every=0)
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("extend"))
        patch.setattr(recipes, "load", lambda name: {"challenge": config}[name])
        for number, block in enumerate(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)):
            exec(
                compile(block.replace("num_steps = 20", "num_steps = 2"), f"{PAGE.name}, block {number}", "exec"), names
            )
        names["loaded"] = lga_jax.load("runs/extended", detector=names["cascade"])
    return names


@pytest.mark.slow
def test_the_parts_of_the_page_train_together(names):
    assert names["step"] == 2
    assert math.isfinite(float(names["metrics"]["total"])) and float(names["metrics"]["confidence"]) > 0
    assert {"roi_class", "roi_class_2"} <= set(names["metrics"])
    assert names["run"].result.num_images == 4 and set(names["run"].result.per_class) == {"bright", "dark"}


@pytest.mark.slow
def test_the_parts_follow_the_protocols(names):
    assert isinstance(names["TinyBackbone"](), Backbone)
    assert isinstance(names["Gate"](), RegionAttention)
    assert isinstance(names["train_source"], Source) and not isinstance(names["train_source"], Scored)


@pytest.mark.slow
def test_the_trained_detector_predicts(names):
    found = names["loaded"].predict(names["train_source"].image(0), score_threshold=0.0)
    assert found and {detection.name for detection in found} <= {"bright", "dark"}
    assert all(0 <= x1 <= x2 <= 64 and 0 <= y1 <= y2 <= 64 for x1, y1, x2, y2 in (found_.box for found_ in found))
