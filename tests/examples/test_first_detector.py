"""The notebook runs from its first cell to its last, with a tiny detector and few images."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from lga_jax import recipe as recipes
from tests import tiny_run

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_detector.ipynb"
TINY = """
NUM_IMAGES = {"train": 4, "val": 4}
NUM_STEPS = 2
"""


def tiny_recipe(name):
    """Stands for coco_json_small, whose network takes minutes to compile and whose weights are in another package."""
    config = tiny_run.recipe()
    config.data.train, config.data.eval = (recipes.load(name).data[part] for part in ("train", "eval"))
    config.batch_size = 4
    config.model.roi_sampling.num_samples = 8
    return config


@pytest.mark.slow
def test_every_cell_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tiny_recipe("coco_json_small")
    monkeypatch.setattr(recipes, "load", lambda name: {"coco_json_small": recipe}[name])
    notebook = json.loads(NOTEBOOK.read_text())
    assert notebook["nbformat"] == 4
    names: dict = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
            if "parameters" in cell["metadata"].get("tags", ()):
                exec(TINY, names)
    assert names["detector"].step == 2
    assert len(names["result"].per_class) == len(names["detector"].class_names)
    assert len(names["found"]) == 4
    assert [len(axis.images) for axis in names["axes"]] == [1] * 4
    plt.close("all")
