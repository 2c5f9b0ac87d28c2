"""A recipe of a tiny detector, and the folder of a run of it with random weights, for tests of whole commands."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax

from lga_jax.checkpoints.manifest import make_manifest
from lga_jax.checkpoints.write import Checkpoints
from lga_jax.data.source import open_source
from lga_jax.models.build import build_detector, init_variables
from lga_jax.training.step import create_state

ROOT = Path(__file__).parents[1]
STEP = 7
RECIPE = """
from configs import challenge

def get_config():
    config = challenge.get_config()
    config.batch_size = 2
    config.data.eval.update(num_images=5, image_hw=(64, 64))
    config.data.update(short_edges=(64,), eval_short_edge=64, long_edge=64, buckets=((64, 64),))
    config.model.backbone.width = 8
    config.model.fpn.channels = 16
    config.model.lga.update(reduced_channels=4, hidden=8, close_up_points=3, close_up_channels=4)
    config.model.box_head.hidden = 16
    config.model.proposals.update(pre_nms_test=20, post_nms_test=10)
    config.inference.update(max_candidates=20, max_detections=8, score_threshold=0.01)
    return config
"""


def recipe():
    namespace = {}
    exec(RECIPE, namespace)
    return namespace["get_config"]()


def write_run(folder):
    """Makes folder/tiny.py, the recipe, and folder/runs/tiny with a checkpoint of step STEP."""
    (folder / "tiny.py").write_text(RECIPE)
    config = recipe()
    source = open_source(**config.data.eval)
    detector = build_detector(config.model, len(source.class_names))
    state = create_state(random_variables(detector), optax.sgd(0.1), ema=True)
    with Checkpoints(str(folder / "runs" / "tiny")) as checkpoints:
        checkpoints.save(STEP, state, {}, make_manifest(config, source, source, state.params))


def random_variables(detector):
    """Small random numbers in the shapes of the detector's variables; compiling init_variables would take longer."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: init_variables(detector, 0))
    return jax.tree.map(lambda leaf: rng.normal(0, 0.05, leaf.shape).astype(leaf.dtype), shapes)


def call(folder, script, *args, devices=1):
    """Runs a script of the project's root in `folder`, in a process of its own."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    command = [sys.executable, str(ROOT / script), *map(str, args)]
    return subprocess.run(command, check=False, cwd=folder, env=env, capture_output=True, text=True)
