"""Small checkpoints to read, damage and forget."""

import json

import jax
import jax.numpy as jnp

from lga_jax.checkpoints.manifest import FORMAT, parameter_table, sealed
from lga_jax.checkpoints.write import Checkpoints
from lga_jax.inference.step import replicate
from lga_jax.structs import TrainState

CONFIG = {"num_steps": 10, "batch_size": 4, "optim": {"schedule": "step", "lr": 0.1}, "log_every": 1, "model": {}}


def state_of(value, ema=True):
    params = {"conv": {"kernel": jnp.full((2, 3), value), "bias": jnp.arange(3.0)}}
    return replicate(
        TrainState(
            step=jnp.int32(value),
            params=params,
            batch_stats={"mean": jnp.full(3, -value)},
            opt_state=({"momentum": jax.tree.map(lambda p: p * 2, params)}, ()),
            ema_params=jax.tree.map(lambda p: p + 0.5, params) if ema else None,
        )
    )


def manifest_of(state, classes=("car", "bus")):
    return {
        "format": FORMAT,
        "config": CONFIG,
        "class_names": list(classes),
        "category_ids": [1, 7],
        "parameters": parameter_table(state.params),
        "schedule_start": 0,
    }


def save_steps(workdir, scores, ema=True):
    """Steps 1, 2, ...; a score is known only after its step was saved, as in a run. None: the step is not scored."""
    with Checkpoints(str(workdir)) as checkpoints:
        for step, score in enumerate(scores, start=1):
            state = state_of(float(step), ema)
            checkpoints.save(step, state, {"step": step}, manifest_of(state))
            if score is not None:
                checkpoints.score(step, score)
    return saved_steps(workdir)


def saved_steps(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def edit_manifest(workdir, step, edit):
    """Changes the manifest of a step by `edit`, which edits a dict in place, and writes it with a new digest."""
    (path,) = (workdir / "checkpoints" / str(step) / "manifest").rglob("metadata")
    manifest = json.loads(path.read_text())
    edit(manifest)
    if "step" in manifest and "digests" in manifest:
        digests = {name: value for name, value in manifest["digests"].items() if name != "manifest"}
        manifest = sealed(manifest, manifest["step"], digests)
    path.write_text(json.dumps(manifest))


def files_by_size(directory):
    return sorted((path for path in directory.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
