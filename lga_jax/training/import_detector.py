"""Imports the detector of another project as the checkpoint of step 0."""

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from lga_jax.checkpoints.initial import open_weights
from lga_jax.checkpoints.lock import lock_workdir
from lga_jax.checkpoints.manifest import category_ids, manifest_for_classes
from lga_jax.checkpoints.write import Checkpoints
from lga_jax.data.source import open_source
from lga_jax.errors import UserError, listed, printable
from lga_jax.models.build import build_detector, init_variables
from lga_jax.models.freezing import frozen_labels, rate_factors
from lga_jax.stores.place import check_local
from lga_jax.terminal import say
from lga_jax.training.optimizer import make_optimizer
from lga_jax.training.step import create_state
from lga_jax.weights.class_rows import coco_rows, num_classes
from lga_jax.weights.coco_classes import COCO_CLASSES
from lga_jax.weights.files import Weights
from lga_jax.weights.layouts import Layout, recognise
from lga_jax.weights.load import load_pretrained


def import_weights(config: ConfigDict, place: str, workdir: str) -> None:
    """Writes the detector at `place` as the checkpoint of step 0 into the workdir and prints the source of each part.

    Raises UserError if the workdir has checkpoints, or the weights do not cover the recipe's model.
    """
    check_local(workdir, "workdir")
    checkpoints = Path(workdir, "checkpoints")
    if checkpoints.is_dir() and any(checkpoints.iterdir()):
        raise UserError(
            f"workdir {workdir}",
            expected="a folder without checkpoints",
            found="checkpoints",
            remedy="choose another folder",
        )
    weights = open_weights(place)
    layout = recognise(weights.where, weights.arrays)
    names, ids = _classes(layout, weights, config)
    detector = build_detector(config.model, len(names))
    shapes = jax.eval_shape(lambda: init_variables(detector, config.seed))
    _check_whole(layout, weights, shapes["params"], len(names))
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    variables, report = load_pretrained(weights, empty, names, config.model.to_dict(), exact=True)
    labels = frozen_labels(shapes["params"], detector.backbone)
    factors = rate_factors(shapes["params"], detector.backbone, config.optim.backbone_decay)
    optimizer, _ = make_optimizer(config.optim, config.batch_size, config.num_steps, labels, factors=factors)
    state = create_state(variables, optimizer, ema=config.optim.ema_decay > 0)
    with lock_workdir(workdir), Checkpoints(workdir) as writer:
        writer.save(0, state, {}, manifest_for_classes(config, names, ids, shapes["params"]))
    say(f"{report}\n{len(names)} classes: {listed([printable(name) for name in names])}")
    say(f"written: {checkpoints / '0'}, for eval.py, predict.py and train.py --workdir {workdir}")


def _classes(layout: Layout, weights: Weights, config: ConfigDict) -> tuple[tuple[str, ...], list[int]]:
    """Names and ids of the class predictor's rows: from the file, from COCO if the count fits, else from data.eval."""
    coco_ids = {name: category for category, name in COCO_CLASSES.items()}
    names = weights.class_names
    count = num_classes(layout, weights) or 0
    if names is None and coco_rows(layout, count):
        _check_data_is_coco(weights, config, count)
        names = tuple(coco_ids)
    if names is None:
        source = open_source(**config.data.eval)
        return source.class_names, category_ids(source)
    if weights.category_ids:
        return names, list(weights.category_ids)
    if set(names) <= set(coco_ids):
        return names, [coco_ids[name] for name in names]
    return names, list(range(1, len(names) + 1))


def _check_data_is_coco(weights: Weights, config: ConfigDict, count: int) -> None:
    """Raises UserError if data.eval exists and has as many classes as the file, but not COCO's classes."""
    try:
        source = open_source(**config.data.eval)
    except UserError:
        return
    if len(source.class_names) == count and set(source.class_names) != set(COCO_CLASSES.values()):
        raise UserError(
            f"--weights {weights.where}",
            expected=f"COCO's classes for a predictor of {count} without names",
            found=f"data.eval with {count} other classes ({listed(source.class_names, 3)})",
            remedy="if the weights have these classes, save them as .safetensors "
            "with class_names in the metadata; otherwise use other data",
        )


def _check_whole(layout: Layout, weights: Weights, params: dict, num_configured: int) -> None:
    missing = [part for part in params if part not in layout.parts]
    if missing:
        remedy = "set model.attention='none'" if missing == ["attention"] else "train from it with model.init_from"
        raise UserError(
            f"--weights {weights.where}",
            expected="all parts of the recipe's detector",
            found=f"{layout.title} without {', '.join(missing)}",
            remedy=remedy,
        )
    found = num_classes(layout, weights)
    if weights.class_names is None and coco_rows(layout, found or 0) is None and found != num_configured:
        raise UserError(
            f"--weights {weights.where}",
            expected=f"the {num_configured} classes of data.eval",
            found=f"a predictor of {found} classes",
            remedy="use the data of its training",
        )
