"""The training run: trains and evaluates the detector of a recipe in a workdir.

with open_run(recipe, "runs/mine") as run:
    for step, metrics in run:
        ...
"""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array
from ml_collections import ConfigDict
from tqdm import tqdm

from lga_jax.checkpoints.manifest import OWN_DETECTOR
from lga_jax.checkpoints.read import best_step, has_checkpoint, latest_step
from lga_jax.checkpoints.workdir import open_workdir
from lga_jax.checkpoints.write import Checkpoints
from lga_jax.data.batches.loader import TrainLoader
from lga_jax.data.source import Source
from lga_jax.errors import counted
from lga_jax.evaluation.evaluate import EvalResult, score_source
from lga_jax.evaluation.losses import LossStep, make_loss_step
from lga_jax.files import WriteError
from lga_jax.inference.step import PredictStep, make_predict_step
from lga_jax.memory import OutOfMemoryError, out_of_memory
from lga_jax.models.build import build_detector
from lga_jax.models.detector import Detector
from lga_jax.processes.join import compare, end_if_failing, ending_together, joined
from lga_jax.recipe import as_recipe, check
from lga_jax.stores.place import check_place, is_url
from lga_jax.stores.store import StoreError
from lga_jax.terminal import safe_output
from lga_jax.training.dynamic import dynamic_rule
from lga_jax.training.early_stopping import has_stalled
from lga_jax.training.interrupt import Interrupt
from lga_jax.training.metrics import MetricsLog
from lga_jax.training.samples import draw_samples
from lga_jax.training.start import (
    Beginning,
    begin,
    compile_steps,
    losses_of,
    open_loader,
    open_sources,
    recipe_facts,
    run_facts,
    say,
    scored_variables,
)
from lga_jax.training.step import ExtraLoss, Step, make_train_step
from lga_jax.training.trackers.tracker import open_trackers


def train(
    recipe: ConfigDict | str | os.PathLike, workdir: str | os.PathLike, *, extend: bool = False
) -> signal.Signals | None:
    """Trains as described in `open_run`, with a progress bar and messages.

    Returns the signal that stopped the run; None without one.
    """
    with safe_output():
        with open_run(recipe, workdir, extend=extend) as run, _progress_bar(run) as bar:
            for _ in run:
                _show(bar, run)
        for line in run.closing_lines():
            say(line)
    return run.stopped_by


@contextmanager
def open_run(
    recipe: ConfigDict | str | os.PathLike,
    workdir: str | os.PathLike,
    *,
    source: Source | None = None,
    eval_source: Source | None = None,
    detector: Detector | None = None,
    extra_losses: Mapping[str, ExtraLoss] = MappingProxyType({}),
    after_optimizer: optax.GradientTransformation | None = None,
    sampling_seed: int | None = None,
    extend: bool = False,
) -> Iterator["Run"]:
    """Opens a run: checks the recipe and the data, restores or creates the state, and compiles the programs.

    Iterating over the run trains until recipe.num_steps, or until SIGTERM or SIGINT. A reopened run resumes at its
    latest checkpoint with bit-identical results. Leaving the context without an exception saves the last step. The run
    writes checkpoints/, metrics.jsonl and tensorboard/ into the workdir, and to W&B or MLflow if
    recipe.tracker names one. With several processes, each one calls
    lga_jax.join_processes and opens the run in the same shared workdir; an exception, or the loss of one process, then
    ends all of them. Raises UserError; TrainingDivergedError, a subclass, for values that are not finite.

    Args:
        recipe: a recipe, its name or its path.
        workdir: the folder of the run, also gs://BUCKET/FOLDER or s3://BUCKET/FOLDER (docs/scaling.md).
        source, eval_source: images for training and evaluation instead of recipe.data.train and recipe.data.eval.
        detector: replaces the detector of recipe.model; built for the classes of the source (`build_detector`).
        extra_losses: functions of (outputs, batch), by name; see `make_train_step`.
        after_optimizer: applied to the optimizer's updates, for example another learning rate for some parameters.
        sampling_seed: seed of the random anchors and RoIs of a step; None: recipe.seed. It is a constant of the
            compiled program: runs with the same value share the program in JAX's compilation cache.
        extend: starts a new schedule at the checkpoint, without warm-up, if recipe.num_steps is larger than the
            checkpoint's.
    """
    with ending_together():
        given = {"data.train": source, "data.eval": eval_source} | dict.fromkeys(OWN_DETECTOR, detector)
        own = [part for part, object_ in given.items() if object_ is not None]
        workdir = os.path.expanduser(workdir)
        check_place(workdir)
        recipe = as_recipe(recipe)
        compare("recipe", lambda: recipe_facts(recipe, extend=extend, sampling_seed=sampling_seed))
        recipe = check(recipe, device_count=jax.device_count(), new_run=not has_checkpoint(workdir), own=own)
        source, eval_source = open_sources(recipe, source, eval_source)
        detector = detector or build_detector(recipe.model, len(source.class_names))
        with (
            safe_output(),
            _told_what_is_kept(workdir),
            Interrupt() as interrupt,
            open_workdir(workdir) as folder,
            Checkpoints(folder, own_folder=is_url(workdir)) as checkpoints,
        ):
            beginning = begin(recipe, detector, (source, eval_source), checkpoints, after_optimizer, extend)
            losses = losses_of(recipe, source)
            train_step = make_train_step(
                detector,
                beginning.optimizer,
                losses,
                ema_decay=recipe.optim.ema_decay,
                seed=recipe.seed if sampling_seed is None else sampling_seed,
                images_at_once=recipe.images_at_once,
                extra_losses=extra_losses,
                dynamic=dynamic_rule(recipe),
            )
            predict_step = make_predict_step(detector, recipe.inference.to_dict())
            loss_step = make_loss_step(detector, losses, extra_losses) if recipe.eval_losses else None
            loader = open_loader(source, recipe, beginning.step, beginning.position)
            if member := joined():
                member.begin_steps(beginning.step)  # before a comparison, so in all before a signal can stop one
            compare("data and state", lambda: run_facts(beginning, loader.position(), eval_source))
            with open_trackers(recipe, folder, beginning.step) as trackers, closing(loader):
                if beginning.step < recipe.num_steps:
                    compile_steps(train_step, predict_step, beginning.state, loader, eval_source, recipe, loss_step)
                rates = (recipe.log_every, recipe.batch_size, beginning.schedule)
                with MetricsLog(folder, beginning.step, *rates, trackers) as log:
                    steps = (train_step, predict_step, loss_step)
                    parts = _Parts(*steps, loader, eval_source, interrupt, checkpoints, log)
                    run = Run(recipe, workdir, beginning, parts)
                    interrupt.listen()
                    yield run
                    if run.step > beginning.step:
                        run.save()
        end_if_failing(run.error_ahead)


@contextmanager
def _told_what_is_kept(workdir: str | os.PathLike) -> Iterator[None]:
    """Adds to an error about writing or memory from which step the run can be continued."""
    try:
        yield
    except Exception as error:
        fault = error if isinstance(error, WriteError | OutOfMemoryError) else out_of_memory(error)
        if fault is None:
            raise
        step = _step_kept(workdir)
        remedy = fault.remedy if step is None else f"{fault.remedy}; the same command continues from step {step:,}"
        raise type(fault)(fault.subject, expected=fault.expected, found=fault.found, remedy=remedy) from error


def _step_kept(workdir: str | os.PathLike) -> int | None:
    try:
        return latest_step(workdir)
    except StoreError:  # would hide the error that ends the run
        return None


class _Parts(NamedTuple):
    """The objects of a run."""

    train_step: Step
    predict_step: PredictStep
    loss_step: LossStep | None
    loader: TrainLoader
    eval_source: Source
    interrupt: Interrupt
    checkpoints: Checkpoints
    log: MetricsLog


class Run:
    """A run opened by `open_run`. Iterating over it trains the remaining steps.

    Attributes:
        recipe, workdir: the checked recipe and the workdir.
        step: the number of completed steps.
        state: the state after this step. The next step overwrites its memory; copy arrays to keep them.
        result: the result of the last evaluation; None before the first one.
        latest: the latest metrics read, from the previous step.
    """

    def __init__(self, recipe: ConfigDict, workdir: str, beginning: Beginning, parts: _Parts) -> None:
        self.recipe, self.workdir = recipe, workdir
        self.step, self.state, self.result = beginning.step, beginning.state, None
        self._manifest, self._parts = beginning.manifest, parts

    @property
    def latest(self) -> Mapping[str, float]:
        return self._parts.log.latest

    @property
    def stopped_by(self) -> signal.Signals | None:
        """The signal that the run received."""
        number = self._parts.interrupt.requested
        return signal.Signals(number) if number else None

    @property
    def error_ahead(self) -> Exception | None:
        """The error of the data that this process will meet in one of the next steps, as far as it is known."""
        return self._parts.loader.error_until(self.recipe.num_steps)

    def __iter__(self) -> Iterator[tuple[int, Mapping[str, Array]]]:
        """Yields (completed steps, metrics of the step) after every step; reading a metric waits for the devices.

        Evaluation runs every eval_every steps and after the last step, once the caller asks for the next step.
        """
        while not self._parts.interrupt.agreed(self.step, self.error_ahead):
            if self._evaluation_due() and self.step not in self._parts.log.evaluations and not self._evaluate():
                return
            if self.step >= self.recipe.num_steps or self._stopped_early():
                return
            metrics = self._take_step()
            yield self.step, metrics

    def _take_step(self) -> Mapping[str, Array]:
        try:
            batch = next(self._parts.loader)
        except Exception:  # faulty data must not lose completed steps
            # The others stop before an error that is known some steps ahead. Now they have begun another step, and do
            # not come to save.
            if joined() is None:
                self.save()
            raise
        try:
            self.state, metrics = self._parts.train_step(self.state, batch)
        except Exception as error:
            if out_of_memory(error) and not any(leaf.is_deleted() for leaf in jax.tree.leaves(self.state)):
                self.save()
            raise
        self.step += 1
        self._parts.log.push(self.step, metrics)
        if self.step % self.recipe.checkpoint_every == 0 or self._evaluation_due():
            self.save()
        return metrics

    def save(self) -> None:
        """Saves this step if it is not saved. Raises TrainingDivergedError, and saves nothing, for inf or nan."""
        log, state = self._parts.log, self.state
        log.flush()
        log.check_state(self.step, (state.params, state.batch_stats, state.ema_params))
        self._parts.checkpoints.save(self.step, state, self._parts.loader.position(), self._manifest)
        log.restart_clock()

    def _evaluation_due(self) -> bool:
        every = self.recipe.eval_every
        return (every > 0 and self.step > 0 and self.step % every == 0) or self.step >= self.recipe.num_steps

    def _stopped_early(self) -> bool:
        log, rule = self._parts.log, self.recipe.early_stopping
        return has_stalled(rule.patience, rule.metric, log.evaluations, log.evaluation_losses)

    def _evaluate(self) -> bool:
        """Evaluates the parameters and stores the score. Returns False if a signal stopped the evaluation."""
        parts = self._parts
        result, raw = self._score(scored_variables(self.state), parts.loss_step), None
        if result and self.recipe.eval_raw:
            raw = self._score({"params": self.state.params, "batch_stats": self.state.batch_stats})
        if result is None or (self.recipe.eval_raw and raw is None):
            parts.interrupt.agree()
            return False
        self.result = result
        parts.checkpoints.score(self.step, result.summary["AP"])
        parts.log.evaluated(self.step, result.summary, result.per_class, result.losses, raw and raw.summary)
        if jax.process_index() == 0:
            parts.log.pictures(self.step, draw_samples(parts.eval_source, result.detections))
        found = f"AP {result.summary['AP']:.4f}, AP50 {result.summary['AP50']:.4f}"
        found += f", segm AP {result.summary['segm/AP']:.4f}" if "segm/AP" in result.summary else ""
        found += f", AP {raw.summary['AP']:.4f} without the moving average" if raw else ""
        found += f", loss {result.losses['total']:.4f}" if result.losses else ""
        say(f"step {self.step:,}: {found}; {_best(parts.checkpoints.scores)}")
        if result.num_non_finite:
            found = counted(result.num_non_finite, "detection")
            say(f"step {self.step:,}: {found} without finite numbers left out of the score")
        return True

    def _score(self, variables: Mapping[str, Any], loss_step: LossStep | None = None) -> EvalResult | None:
        """None if a signal stopped the evaluation."""
        parts = self._parts
        return score_source(
            parts.predict_step,
            variables,
            parts.eval_source,
            self.recipe.data,
            self.recipe.batch_size,
            should_stop=lambda: parts.interrupt.requested > 0,
            progress=jax.process_index() == 0,
            loss_step=loss_step,
            object_masks=self.recipe.model.mask_head.enabled,
        )

    def closing_lines(self) -> list[str]:
        """Messages about the end of the run."""
        loader, scores = self._parts.loader, self._parts.checkpoints.scores
        unreadable, without_slot = loader.num_unreadable, loader.num_without_slot
        lines = [
            f"data.train: {unreadable} unreadable images were replaced by empty grey images",
            f"data.train: {without_slot} boxes found no free slot beside pasted boxes; leave data.max_boxes unset",
        ]
        lines = [line for line, count in zip(lines, (unreadable, without_slot), strict=True) if count]
        if self._stopped_early() and self.step < self.recipe.num_steps:
            rule = self.recipe.early_stopping
            reason = f"{rule.patience} evaluations without a better {rule.metric} (early_stopping)"
            return [*lines, f"done after step {self.step:,}: {reason}; {_best(scores)}"]
        if self.step < self.recipe.num_steps:
            place = f"after step {self.step:,} of {self.recipe.num_steps:,}"
        elif self.step not in self._parts.log.evaluations:
            place = "before the end of the last evaluation"
        else:
            return [*lines, f"done: {self.recipe.num_steps:,} steps in {self.workdir}, {_best(scores)}"]
        return [*lines, f"stopped {place}; repeat the command to resume"]


def _best(scores: Mapping[int, float]) -> str:
    step = best_step(scores, list(scores))
    return "no AP so far" if step is None else f"best AP {scores[step]:.4f} at step {step:,}"


def _progress_bar(run: Run) -> tqdm:
    seconds = 0.2 if sys.stderr.isatty() else 30.0  # between two updates: a log file keeps every update
    return tqdm(
        total=run.recipe.num_steps,
        initial=run.step,
        unit="step",
        mininterval=seconds,
        dynamic_ncols=True,
        disable=jax.process_index() != 0,
    )


def _show(bar: tqdm, run: Run) -> None:
    shown = bar.format_dict
    # tqdm measures no rate before its second drawing, which a short run never reaches.
    rate = shown["rate"] or (bar.n + 1 - (shown["initial"] or 0)) / max(shown["elapsed"], 1e-3)
    loss = f"loss {run.latest['total']:.3f}, " if run.latest else ""
    bar.set_postfix_str(f"{loss}{rate * run.recipe.batch_size:.1f} images/s", refresh=False)
    bar.update()
