"""The notebook runs from its first cell to its last, at a tiny size."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_detector.ipynb"
TINY = """
NUM_IMAGES = {"train": 4, "val": 4}
NUM_STEPS = 2
"""
# Without pretrained weights, which come from another package, and with the smallest network.
TINY_RECIPE = """
recipe.batch_size = 4
recipe.data.num_workers = 1
recipe.model.init_from = ""
recipe.model.backbone.norm, recipe.model.backbone.frozen_stages = "gn", 0
recipe.model.fpn.channels = 16
recipe.model.lga.update(reduced_channels=4, hidden=8)
recipe.model.box_head.hidden = 16
recipe.model.proposals.update(pre_nms_train=20, pre_nms_test=20, post_nms_train=10, post_nms_test=10)
recipe.model.roi_sampling.num_samples = 8
"""


@pytest.mark.slow
def test_every_cell_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(NOTEBOOK.read_text())
    assert notebook["nbformat"] == 4
    names: dict = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            exec(source, names)
            if "parameters" in cell["metadata"].get("tags", ()):
                exec(TINY, names)
            if "recipes.load(" in source:
                exec(TINY_RECIPE, names)
    assert len(names["result"].per_class) == len(names["detector"].class_names)
    assert len(names["found"]) == 4
    assert [len(axis.images) for axis in names["axes"]] == [1] * 4
    plt.close("all")
