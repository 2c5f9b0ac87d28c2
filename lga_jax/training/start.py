"""Prepares a run before its first step: data, state and compiled programs. Faults in them are found here."""

import time
from contextlib import closing
from typing import NamedTuple

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from lga_jax import terminal
from lga_jax.checkpoints.damage import digest
from lga_jax.checkpoints.initial import open_weights
from lga_jax.checkpoints.manifest import Manifest, make_manifest
from lga_jax.checkpoints.write import Checkpoints, Restored
from lga_jax.data.batches.loader import EvalLoader, TrainLoader, check_position
from lga_jax.data.doctor.examine import quick_warnings
from lga_jax.data.faulty import check_data, check_masks
from lga_jax.data.source import Source, fingerprint_of, open_source, report_of
from lga_jax.errors import UserError, counted, listed, name_differences
from lga_jax.evaluation.losses import LossStep
from lga_jax.inference.compilation import compile_ahead, size_of
from lga_jax.inference.step import PredictStep, lower_predictions, replicate
from lga_jax.models.build import init_variables
from lga_jax.models.detector import Detector
from lga_jax.models.freezing import frozen_labels, rate_factors
from lga_jax.processes.join import compare, joined
from lga_jax.recipe import flatten
from lga_jax.structs import TrainState
from lga_jax.training.class_weights import class_weights
from lga_jax.training.dynamic import dynamic_rule
from lga_jax.training.interrupt import BATCHES_AHEAD
from lga_jax.training.optimizer import Schedule, describe, make_optimizer
from lga_jax.training.step import Step, create_state, initial_state
from lga_jax.weights.load import load_pretrained


def say(line: str) -> None:
    """Prints a line in process 0, above the progress bar if there is one."""
    if jax.process_index() == 0:
        terminal.say(line)


def open_sources(recipe: ConfigDict, source: Source | None, eval_source: Source | None) -> tuple[Source, Source]:
    """The given sources, or the sources of data.train and data.eval.

    Raises UserError if their classes differ, if a batch is larger than the source of the training images, if a source
    has no boxes or too many faults (`check_data`), or no object masks for a mask head.
    """
    source, eval_source = (
        open_source(**recipe.data[part]) if given is None else given
        for part, given in (("train", source), ("eval", eval_source))
    )
    for part, opened in (("train", source), ("eval", eval_source)):
        for line in report_of(opened):
            say(f"data.{part}: {line}")
    if source.class_names != eval_source.class_names:
        raise UserError(
            "data.eval",
            expected=f"the {len(source.class_names)} classes of data.train in the same order",
            found=name_differences(source.class_names, eval_source.class_names, "data.train", "data.eval"),
            remedy="use the same categories with the same ids in both",
        )
    _check_batch_size(recipe.batch_size, len(source.records))
    for line in quick_warnings(source, eval_source):
        say(line)
    for part, opened in (("data.train", source), ("data.eval", eval_source)):
        check_data(part, opened, recipe.data)
        for line in check_masks(part, opened) if recipe.model.mask_head.enabled else ():
            say(f"{part}: {line}")
    return source, eval_source


def _check_batch_size(batch_size: int, num_images: int) -> None:
    """Raises UserError if a batch is larger than the data set: it would contain images twice."""
    if batch_size > num_images:
        raise UserError(
            "batch_size",
            expected=f"at most the {counted(num_images, 'image')} of data.train",
            found=f"{batch_size:,}",
            remedy="lower it, or add images",
        )


class Beginning(NamedTuple):
    """The start of a run: the state of its latest checkpoint, or a new state."""

    step: int
    state: TrainState
    position: dict  # position of the data loader; {} in a new run
    optimizer: optax.GradientTransformation
    schedule: Schedule
    manifest: Manifest


def begin(
    recipe: ConfigDict,
    detector: Detector,
    sources: tuple[Source, Source],
    checkpoints: Checkpoints,
    after_optimizer: optax.GradientTransformation | None,
    extend: bool,
) -> Beginning:
    """Restores the latest checkpoint, or makes a new state. Raises UserError if the checkpoint has another recipe."""
    shapes = jax.eval_shape(lambda: init_variables(detector, recipe.seed))
    labels = frozen_labels(shapes["params"], detector.backbone)
    factors = rate_factors(shapes["params"], detector.backbone, recipe.optim.backbone_decay)
    manifest = make_manifest(recipe, *sources, shapes["params"])

    def optimizer_from(start: int) -> tuple[optax.GradientTransformation, Schedule]:
        optimizer, schedule = make_optimizer(recipe.optim, recipe.batch_size, recipe.num_steps, labels, start, factors)
        return optimizer if after_optimizer is None else optax.chain(optimizer, after_optimizer), schedule

    # Shapes suffice to restore a checkpoint: model.init_from is not read and no parameter is initialised.
    optimizer, _ = optimizer_from(0)
    ema, dynamic = recipe.optim.ema_decay > 0, dynamic_rule(recipe)
    like = jax.eval_shape(lambda variables: initial_state(variables, optimizer, ema, dynamic), shapes)
    restored = checkpoints.restore(like, manifest, extend)
    if restored is None:
        _check_nothing_to_extend(extend)
        restored = Restored(0, new_state(recipe, detector, sources[0].class_names, optimizer), {}, schedule_start=0)
    else:
        restored = restored._replace(state=replicate(restored.state))
        if recipe.model.init_from:
            say(f"model.init_from: not read, because the run resumes from the checkpoint of step {restored.step:,}")
    optimizer, schedule = optimizer_from(restored.schedule_start)
    say(describe(recipe.optim, recipe.batch_size, recipe.num_steps, restored.schedule_start))
    devices = f"{jax.device_count()} {jax.default_backend()} devices"
    say(f"step {restored.step:,} of {recipe.num_steps:,}, {devices}")
    manifest["schedule_start"] = restored.schedule_start
    return Beginning(*restored[:3], optimizer, schedule, manifest)


def new_state(
    recipe: ConfigDict, detector: Detector, class_names: tuple[str, ...], optimizer: optax.GradientTransformation
) -> TrainState:
    """The state before the first step: random, with what model.init_from has for it."""
    variables = init_variables(detector, recipe.seed)
    if recipe.model.init_from:
        weights = open_weights(recipe.model.init_from)
        variables, report = load_pretrained(
            weights, variables, class_names, recipe.model.to_dict(), backbone=detector.backbone
        )
        say(report)
    return create_state(variables, optimizer, recipe.optim.ema_decay > 0, dynamic_rule(recipe))


def _check_nothing_to_extend(extend: bool) -> None:
    if extend:
        raise UserError(
            "extend", expected="a run in the workdir", found="no checkpoint", remedy="train without extend first"
        )


def losses_of(recipe: ConfigDict, source: Source) -> dict:
    """The recipe's `losses` with the weights of the classes of the source. Raises UserError."""
    losses = recipe.losses.to_dict()
    balance = losses.pop("balance_classes")
    weights = class_weights(losses["class_weights"], balance, source.records, len(source.class_names))
    if balance:
        shown = (f"{name} {weight:.2f}" for name, weight in zip(source.class_names, weights, strict=True))
        say(f"losses.balance_classes: {listed(list(shown), 20)}")
    return losses | {"class_weights": weights}


def open_loader(source: Source, recipe: ConfigDict, start: int, position: dict) -> TrainLoader:
    """The data loader from step `start` on. Raises UserError if `position` belongs to other data."""
    ahead, masks = BATCHES_AHEAD if joined() else 0, recipe.model.mask_head.enabled
    settings = recipe.data, recipe.seed, recipe.batch_size, start, jax.local_devices()
    loader = TrainLoader(source, *settings, lookahead=ahead, object_masks=masks)
    if position:
        check_position(position, loader.position())
    for line in loader.report:
        say(f"data.train: {line}")
    return loader


# Values that may differ between processes: they have no effect on the parameters, or their effect is compared.
_OF_ONE_PROCESS = ("data.num_workers", "data.prefetch", "model.init_from")


def recipe_facts(recipe: ConfigDict, **settings: object) -> dict:
    """What processes compare before they open their data. `settings`: other arguments of the run."""
    keys = {
        key: value for key, value in flatten(recipe).items() if key not in _OF_ONE_PROCESS and not key.endswith(".root")
    }
    names = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl", "jax_threefry_partitionable")
    return {
        "recipe": keys,
        "argument": settings,
        "devices:": {"platform": jax.default_backend(), "number": jax.local_device_count()},
        "jax's setting": {name: getattr(jax.config, name) for name in names},
    }


def run_facts(beginning: Beginning, position: dict, eval_source: Source) -> dict:
    """What processes compare before they compile: data, position of the loader, digest of the state at the start."""
    state = jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), beginning.state)
    return {
        "step of the checkpoint": beginning.step,
        "data.train:": position,
        "data.eval:": {"num_images": len(eval_source.records), "fingerprint": fingerprint_of(eval_source)},
        "class_names": beginning.manifest["class_names"],
        "category_ids": beginning.manifest["category_ids"],
        "parameters": beginning.manifest["parameters"],
        "state:": {"digest": digest(state._asdict())},
    }


def compile_steps(
    train_step: Step,
    predict_step: PredictStep,
    state: TrainState,
    loader: TrainLoader,
    eval_source: Source,
    recipe: ConfigDict,
    loss_step: LossStep | None = None,
) -> None:
    """Compiles the programs of all buckets, so that no later step waits for the compiler or fails in it."""
    say(
        "compiling the training step and the evaluation for each bucket: seconds to minutes without output"
        + (", on a CPU several minutes for a ResNet-50" if jax.default_backend() == "cpu" else "")
    )
    programs = {f"training {size_of(batch)}": train_step.lower(state, batch) for batch in loader.empty_batches()}
    eval_loader = EvalLoader(
        eval_source,
        recipe.data,
        recipe.batch_size,
        jax.local_devices(),
        with_targets=loss_step is not None,
        object_masks=recipe.model.mask_head.enabled,
    )
    with closing(eval_loader):
        variables = scored_variables(state)
        programs |= lower_predictions(predict_step, variables, eval_loader)
        for batch in eval_loader.empty_batches() if loss_step else ():
            programs[f"evaluation losses {size_of(batch)}"] = loss_step.lower(variables, batch)
    seconds = compile_ahead(programs)
    say("compiled for " + ", ".join(f"{name} in {taken:.1f} s" for name, taken in seconds.items()))
    _wait_for_programs()


def _wait_for_programs() -> None:
    """Waits until all processes have compiled: collective operations on a CPU give up after 30 s.

    On a CPU each process compiles for itself in every run. JAX's compilation cache has another key in each process,
    because the key contains the process's own devices, and only process 0 writes entries.
    """
    start = time.perf_counter()
    compare("programs", dict)
    if (seconds := time.perf_counter() - start) > 1:
        say(f"waited {seconds:.1f} s until the other processes had compiled")


def scored_variables(state: TrainState) -> dict:
    """The variables for evaluation: the moving average of the parameters if the run keeps one, and the statistics."""
    params = state.params if state.ema_params is None else state.ema_params
    return {"params": params, "batch_stats": state.batch_stats}
