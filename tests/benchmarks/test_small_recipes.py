"""What the benchmark trains, and that it repeats nothing (benchmarks/same_time.py)."""

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import same_time, small_recipes
from lga_jax.recipe import check, differences, load


@pytest.fixture
def args(tmp_path):
    return argparse.Namespace(
        data="data", weights="r18.npz", workdir=tmp_path, seeds="0,1", cpu_seconds=90.0, quick=False, rounds=2
    )


def test_the_small_recipe_differs_from_the_other_in_backbone_pixels_and_weights_alone(args):
    small, other = (check(small_recipes.recipe(args, "bccd", name)) for name in small_recipes.BACKBONES)
    changed = {key for key in differences(small, other) if not key.startswith("model.backbone.")}
    assert changed == {"model.pixel_mean", "model.pixel_std", "model.init_from"}
    assert dict(small.model.backbone) == dict(load("coco_json_small").model.backbone)
    assert small.model.init_from == "package://efficientnet_lite0"
    assert other.model.init_from == "r18.npz"
    assert small.data.train.root == other.data.eval.root == str(Path("data", "bccd"))


def test_the_warm_up_keeps_its_share(args):
    config = small_recipes.recipe(args, "neu_det", "resnet18")
    whole = (config.optim.warmup_steps, config.num_steps)
    config = same_time.shortened(config, 90)
    assert (config.optim.warmup_steps, config.num_steps) == (10, 90) and whole == (100, 900)


def test_runs_that_are_done_are_not_repeated(args, monkeypatch):
    seconds = {data: dict.fromkeys(small_recipes.BACKBONES, 1.0) for data in small_recipes.DATA}
    (args.workdir / "steps.json").write_text(json.dumps(seconds))
    calls = []
    monkeypatch.setattr(same_time, "run", lambda args, recipe, *what: calls.append(what) or {"AP": len(calls) / 10})
    first = list(small_recipes.rows(args))
    assert [(row["table"], row["what"], row["seed"]) for row in first[:2]] == [
        ("BCCD", "EfficientNet-Lite0", 0),
        ("BCCD", "ResNet-18, partial weights", 0),
    ]
    assert len(calls) == len(first) == 8 and calls[0] == ("bccd", "efficientnet_lite0", 0, 1.0)
    assert list(small_recipes.rows(args)) == first and len(calls) == 8
