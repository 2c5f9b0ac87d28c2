"""eval.py and predict.py as a user calls them, on the checkpoint of a tiny detector that has learned nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import jax
import numpy as np
import optax
import pytest

from lga_jax.checkpoints.manifest import make_manifest
from lga_jax.checkpoints.write import Checkpoints
from lga_jax.data.source import open_source
from lga_jax.models.build import build_detector, init_variables
from lga_jax.train.step import create_state

ROOT = Path(__file__).parents[1]
CONFIG = """
from configs import challenge

def get_config():
    config = challenge.get_config()
    config.batch_size = 2
    config.data.eval.update(num_images=5, image_hw=(64, 64))
    config.data.update(short_edges=(64,), eval_short_edge=64, long_edge=64, buckets=((64, 64),))
    config.model.backbone.width = 8
    config.model.fpn.channels = 16
    config.model.lga.update(reduced_channels=4, hidden=8)
    config.model.box_head.hidden = 16
    config.model.proposals.update(pre_nms_test=20, post_nms_test=10)
    config.inference.update(max_candidates=20, max_detections=8, score_threshold=0.01)
    return config
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with tiny.py, the recipe, and runs/tiny, its workdir, with a checkpoint of step 7."""
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "tiny.py").write_text(CONFIG)
    namespace = {}
    exec(CONFIG, namespace)
    config = namespace["get_config"]()
    source = open_source(**config.data.eval)
    detector = build_detector(config.model, len(source.class_names))
    state = create_state(random_variables(detector), optax.sgd(0.1), ema=True)
    with Checkpoints(str(folder / "runs" / "tiny")) as checkpoints:
        checkpoints.save(7, state, {}, make_manifest(config, source, source, state.params))
    return folder


def random_variables(detector):
    """Small random numbers in the shapes of the detector's variables; compiling init_variables would take longer."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: init_variables(detector, 0))
    return jax.tree.map(lambda leaf: rng.normal(0, 0.05, leaf.shape).astype(leaf.dtype), shapes)


def call(folder, script, *args, devices=1):
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    command = [sys.executable, str(ROOT / script), *map(str, args)]
    return subprocess.run(command, check=False, cwd=folder, env=env, capture_output=True, text=True)


def test_eval_prints_tables_and_writes_json_and_a_report(run):
    args = ("--config", "tiny.py", "--output", "scores")
    result = call(run, "eval.py", *args, devices=3)  # batch_size is 2; the workdir is runs/tiny
    assert result.returncode == 0, result.stderr
    for words in ("5 images", "AP_small", "AP per class", "tipper", "AP per challenge", "Attention: "):
        assert words in result.stdout
    assert {path.name for path in (run / "runs" / "tiny").iterdir()} == {"checkpoints"}
    assert {path.name for path in (run / "scores").iterdir()} == {"eval_7", "report.html"}
    detections = json.loads((run / "scores" / "eval_7" / "detections.json").read_text())
    assert detections and {len(detection["mask_centres"]) for detection in detections} == {4}
    assert json.loads((run / "scores" / "eval_7" / "metrics.json").read_text())["num_images"] == 5


def test_eval_refuses_another_model(run):
    base = ("--config", "tiny.py", "--workdir", "runs/tiny")
    result = call(run, "eval.py", *base, "--config.model.attention=none")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: --workdir runs/tiny, step 7")
    assert "model.attention 'lga' there, 'none' here" in result.stderr


def test_predict_needs_the_workdir_only(run):
    (run / "photos").mkdir()
    for name, hw in (("tall.png", (120, 70)), ("wide.jpg", (50, 90))):
        cv2.imwrite(str(run / "photos" / name), np.random.default_rng(0).integers(0, 255, (*hw, 3), np.uint8))
    (run / "photos" / "broken.png").write_bytes(b"no image")
    args = ("--workdir", "runs/tiny", "--input", "photos", "--output", "found", "--score_threshold", "0.0")
    result = call(run, "predict.py", *args)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: --input: expected images, found 1 of 3 files")
    assert "objects in 2 images" in result.stdout
    assert {path.name for path in (run / "found").iterdir()} == {"detections.json", "tall.png", "wide.jpg"}
    results = json.loads((run / "found" / "detections.json").read_text())
    assert {result["file_name"] for result in results} == {"tall.png", "wide.jpg"}
