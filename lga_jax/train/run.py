"""The training run: from a configuration and a workdir to a trained, evaluated detector."""

import hashlib
import json
import sys
from contextlib import closing

import jax
import numpy as np
import optax
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from tqdm import tqdm

from lga_jax.checkpoints.initial import open_weights
from lga_jax.checkpoints.manifest import Manifest, make_manifest
from lga_jax.checkpoints.read import best_step
from lga_jax.checkpoints.write import Checkpoints, Restored
from lga_jax.data.batches.loader import EvalLoader, TrainLoader, check_position
from lga_jax.data.doctor.examine import glance
from lga_jax.data.source import Source, open_source
from lga_jax.errors import UserError
from lga_jax.evaluation.evaluate import EvalResult, score_source
from lga_jax.inference.compilation import compile_ahead, size_of
from lga_jax.inference.step import PredictStep, lower_predictions, make_predict_step, replicate
from lga_jax.models.build import build_detector, init_variables
from lga_jax.models.detector import Detector
from lga_jax.models.freezing import frozen_labels
from lga_jax.recipe import check
from lga_jax.structs import TrainState
from lga_jax.train.interrupt import Interrupt
from lga_jax.train.metrics import MetricsLog
from lga_jax.train.optimizer import describe, make_optimizer
from lga_jax.train.step import Step, create_state, make_train_step
from lga_jax.weights.load import load_pretrained


def train(config: ConfigDict, workdir: str) -> None:
    """Trains until config.num_steps, or until SIGTERM or SIGINT; called again it goes on where it stopped, bit for bit.

    Writes checkpoints/, metrics.jsonl and tensorboard/ into the workdir. In a run of several processes each calls it,
    after jax.distributed.initialize, with a workdir that all of them see. Raises UserError for whatever the user can
    mend, among it TrainingDivergedError.
    """
    config = check(config, device_count=jax.device_count())
    source, eval_source = _open_sources(config)
    detector = build_detector(config.model, len(source.class_names))
    with Interrupt() as interrupt, Checkpoints(workdir) as checkpoints:
        shapes = jax.eval_shape(lambda: init_variables(detector, config.seed))
        labels = frozen_labels(shapes["params"], detector.backbone)
        optimizer, schedule = make_optimizer(config.optim, config.batch_size, config.num_steps, labels)
        manifest = make_manifest(config, source, eval_source, shapes["params"])
        start, state, position = _restore(checkpoints, manifest, shapes, optimizer, config) or Restored(
            0, _new_state(detector, source.class_names, optimizer, config), {}
        )
        step = start
        _say(describe(config.optim, config.batch_size, config.num_steps))
        _say(f"step {start:,} of {config.num_steps:,}, {jax.device_count()} {jax.default_backend()} devices")

        train_step = make_train_step(
            detector,
            optimizer,
            config.losses.to_dict(),
            ema_decay=config.optim.ema_decay,
            seed=config.seed,
            images_at_once=config.images_at_once,
        )
        predict_step = make_predict_step(detector, config.inference.to_dict())
        loader = _open_loader(source, config, start, position)
        _check_processes_agree([manifest, start, loader.position()])
        if start < config.num_steps:
            eval_loader = EvalLoader(eval_source, config.data, config.batch_size, jax.local_devices())
            _compile(train_step, predict_step, state, loader, eval_loader)
        log = MetricsLog(workdir, start, config.log_every, config.batch_size, schedule)
        with log, closing(loader), _progress_bar(config, start) as bar:
            while not interrupt.agreed(step):
                if _evaluation_due(config, step) and step not in log.evaluations:
                    result = _evaluate(predict_step, state, eval_source, config, interrupt)
                    if result is None:
                        break
                    _record(step, result, log, checkpoints)
                if step >= config.num_steps:
                    break
                try:
                    batch = next(loader)
                except UserError:  # data that went bad under way costs no step done so far
                    _save(checkpoints, log, step, state, loader, manifest)
                    raise
                state, metrics = train_step(state, batch)
                step += 1
                log.push(step, metrics)
                _show(bar, log, config.batch_size)
                if step % config.checkpoint_every == 0 or _evaluation_due(config, step):
                    _save(checkpoints, log, step, state, loader, manifest)
            if step > start:
                _save(checkpoints, log, step, state, loader, manifest)
    if loader.num_unreadable:
        _say(f"data.train: {loader.num_unreadable} images could not be read and were trained on as empty grey ones")
    if loader.num_without_slot:
        _say(f"data.train: {loader.num_without_slot} boxes had no slot beside pasted ones; leave data.max_boxes unset")
    done = step >= config.num_steps and step in log.evaluations
    _say(
        _closing_line(workdir, config.num_steps, checkpoints.scores) if done else _stopped_line(step, config.num_steps)
    )


def _open_sources(config: ConfigDict) -> tuple[Source, Source]:
    source, eval_source = (open_source(**config.data[part]) for part in ("train", "eval"))
    for part, opened in (("train", source), ("eval", eval_source)):
        for line in opened.report:
            _say(f"data.{part}: {line}")
    if source.class_names != eval_source.class_names:
        missing = set(source.class_names) ^ set(eval_source.class_names)
        raise UserError(
            "data.eval",
            expected=f"the {len(source.class_names)} classes of data.train in the same order",
            found=f"{len(eval_source.class_names)} (differing: {', '.join(sorted(missing)) or 'only the order'})",
            remedy="give both the same categories with the same ids",
        )
    for line in glance(source, eval_source):
        _say(line)
    return source, eval_source


def _new_state(
    detector: Detector, class_names: tuple[str, ...], optimizer: optax.GradientTransformation, config: ConfigDict
) -> TrainState:
    check(config, new_run=True)
    variables = init_variables(detector, config.seed)
    if config.model.init_from:
        weights = open_weights(config.model.init_from)
        variables, report = load_pretrained(weights, variables, class_names, config.model.to_dict())
        _say(report)
    return create_state(variables, optimizer, ema=config.optim.ema_decay > 0)


def _restore(
    checkpoints: Checkpoints,
    manifest: Manifest,
    shapes: dict,
    optimizer: optax.GradientTransformation,
    config: ConfigDict,
) -> Restored | None:
    # Only shapes: nothing is initialised, compiled or read from model.init_from that the checkpoint replaces at once.
    like = jax.eval_shape(lambda variables: create_state(variables, optimizer, ema=config.optim.ema_decay > 0), shapes)
    restored = checkpoints.restore(like, manifest)
    if restored and config.model.init_from:
        _say(f"model.init_from: not read, the workdir has a checkpoint of step {restored.step:,} to go on from")
    return restored and restored._replace(state=replicate(restored.state))


def _open_loader(source: Source, config: ConfigDict, start: int, position: dict) -> TrainLoader:
    loader = TrainLoader(source, config.data, config.seed, config.batch_size, start, jax.local_devices())
    if position:
        check_position(position, loader.position())
    for line in loader.report:
        _say(f"data.train: {line}")
    return loader


def _check_processes_agree(what: list) -> None:
    """Processes that would train different things must not start: they would hang, or average unlike gradients."""
    if jax.process_count() == 1:
        return
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).digest()
    digests = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
    unlike = [process for process, other in enumerate(digests) if (other != digests[0]).any()]
    if unlike:
        raise UserError(
            f"processes {', '.join(map(str, unlike))}",
            expected="the config, data and checkpoint of process 0",
            found="others",
            remedy="start all with one command line, the same annotation files and a workdir that all of them see",
        )


def _compile(
    train_step: Step, predict_step: PredictStep, state: TrainState, loader: TrainLoader, eval_loader: EvalLoader
) -> None:
    """So that no later step waits for a compiler, or fails in one: each new bucket and the first evaluation would."""
    _say("compiling the training step and the evaluation: about 40 s on two CPU cores, longer for a large network")
    programs = {f"training {size_of(batch)}": train_step.lower(state, batch) for batch in loader.empty_batches()}
    with closing(eval_loader):
        programs |= lower_predictions(predict_step, _scored_variables(state), eval_loader)
    seconds = compile_ahead(programs)
    _say("compiled for " + ", ".join(f"{name} in {taken:.1f} s" for name, taken in seconds.items()))


def _evaluation_due(config: ConfigDict, step: int) -> bool:
    regular = config.eval_every > 0 and step > 0 and step % config.eval_every == 0
    return regular or step >= config.num_steps


def _evaluate(
    predict_step: PredictStep, state: TrainState, source: Source, config: ConfigDict, interrupt: Interrupt
) -> EvalResult | None:
    """None when a signal cut it short."""
    return score_source(
        predict_step,
        _scored_variables(state),
        source,
        config.data,
        config.batch_size,
        should_stop=lambda: interrupt.requested,
        progress=jax.process_index() == 0,
    )


def _scored_variables(state: TrainState) -> dict:
    """The parameters, or their moving average where one is kept, and the statistics."""
    params = state.params if state.ema_params is None else state.ema_params
    return {"params": params, "batch_stats": state.batch_stats}


def _record(step: int, result: EvalResult, log: MetricsLog, checkpoints: Checkpoints) -> None:
    checkpoints.score(step, result.summary["AP"])
    log.evaluated(step, result.summary, result.per_class)
    _say(
        f"step {step:,}: AP {result.summary['AP']:.4f}, AP50 {result.summary['AP50']:.4f}; {_best(checkpoints.scores)}"
    )
    if result.num_non_finite:
        _say(f"step {step:,}: {result.num_non_finite} detections were not finite and left out of the score")


def _save(
    checkpoints: Checkpoints, log: MetricsLog, step: int, state: TrainState, loader: TrainLoader, manifest: Manifest
) -> None:
    """Saves a step. Where something in it is no finite number: TrainingDivergedError, and the checkpoints stay good."""
    log.flush()
    log.check_state(step, (state.params, state.batch_stats, state.ema_params))
    checkpoints.save(step, state, loader.position(), manifest)
    log.restart_clock()


def _progress_bar(config: ConfigDict, start: int) -> tqdm:
    seconds = 0.2 if sys.stderr.isatty() else 30.0  # between two drawings: a log file keeps every one
    return tqdm(
        total=config.num_steps,
        initial=start,
        unit="step",
        mininterval=seconds,
        dynamic_ncols=True,
        disable=jax.process_index() != 0,
    )


def _show(bar: tqdm, log: MetricsLog, batch_size: int) -> None:
    rate = bar.format_dict["rate"] or 0.0
    loss = f"loss {log.latest['total']:.3f}, " if log.latest else ""
    bar.set_postfix_str(f"{loss}{rate * batch_size:.1f} images/s", refresh=False)
    bar.update()


def _say(line: str) -> None:
    if jax.process_index() == 0:
        tqdm.write(line)


def _closing_line(workdir: str, num_steps: int, scores: dict[int, float]) -> str:
    return f"done: {num_steps:,} steps in {workdir}, {_best(scores)}"


def _stopped_line(step: int, num_steps: int) -> str:
    what = f"after step {step:,} of {num_steps:,}" if step < num_steps else "before the last evaluation was complete"
    return f"stopped {what}; the same command goes on from there"


def _best(scores: dict[int, float]) -> str:
    step = best_step(scores, list(scores))
    return "no AP so far" if step is None else f"best AP {scores[step]:.4f} at step {step:,}"
