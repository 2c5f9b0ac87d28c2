"""Writes and restores the checkpoints of a run: parameters, optimizer, data position and manifest of a step.

    workdir/checkpoints/<step>/{variables, optimizer, data, manifest, score.json}

A step directory gets its name when it is complete; the incomplete directory of a killed process is ignored. Arrays are
written from host copies and read as numpy, so the number of devices and processes may change.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from lga_jax.checkpoints.damage import check_claims, digest, first_line, json_digest, raise_unless_damage, verify
from lga_jax.checkpoints.disk import (
    close_whatever_is_raised,
    folder_identity,
    hide_tracebacks_of_orbax,
    remove_second_folder,
    remove_unfinished,
    writing_arrays,
)
from lga_jax.checkpoints.manifest import (
    Manifest,
    check_classes,
    check_config,
    check_format,
    check_parameters,
    schedule_start,
    sealed,
)
from lga_jax.checkpoints.read import (
    SCORE_FILE,
    alone,
    best_step,
    damaged_scores,
    folder_of,
    open_reader,
    read_manifest,
    read_scores,
    score_content,
)
from lga_jax.errors import UserError, listed
from lga_jax.files import WriteError, make_folder, unused_path, write_json
from lga_jax.processes.join import compare, difference, joined
from lga_jax.structs import TrainState
from lga_jax.terminal import say


class Restored(NamedTuple):
    """The restored state of a run."""

    step: int
    state: TrainState
    position: dict  # position of the data loader
    schedule_start: int  # the step at which the learning rate's schedule starts


class _Damaged(NamedTuple):
    step: int
    where: str
    error: Exception


class Checkpoints:
    """The checkpoints of a run, as a context manager. Leaving the context waits until the last checkpoint is written.

    The latest two are kept for resuming, and the one with the highest score for evaluation and prediction. A step whose
    score is damaged is kept too, because it may be the best.
    """

    def __init__(self, workdir: str, *, own_folder: bool = False) -> None:
        """`own_folder`: each process has a workdir of its own with the same checkpoints; process 0 alone adds some."""
        self.directory = folder_of(workdir)
        self._own_folder = own_folder and jax.process_count() > 1
        self._latest: int | None = None  # the step that process 0 saved last, in a process that saves none
        try:
            make_folder(self.directory)
        except WriteError as error:
            raise WriteError(
                f"workdir {workdir}", expected=error.expected, found=error.found, remedy=error.remedy
            ) from error
        if jax.process_index() == 0:
            remove_unfinished(self.directory)
        self._identity = folder_identity(self.directory)
        self.scores: dict[int, float] = {}  # step -> AP
        self._not_known: set[int] = set()  # steps with a damaged score
        # Orbax's best_fn needs the score at the time of saving. Here a step is saved before its evaluation, so that an
        # interrupted evaluation loses no training steps.
        # A thread that creates folders would let the others wait 300 s for one that the disk refuses.
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_LatestTwoAndBest(self.scores, self._not_known),
            cleanup_tmp_directories=True,
            async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
            create=not self._own_folder,
            multiprocessing_options=alone("writer") if self._own_folder else ocp.options.MultiprocessingOptions(),
        )
        with writing_arrays(self.directory):
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        self.scores.update(read_scores(self.directory, self.steps()))
        self._keep_damaged_scores()

    def __enter__(self) -> "Checkpoints":
        hide_tracebacks_of_orbax()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None or joined() is None:  # closing waits for the other processes, which do not come then
                with self._writing():
                    close_whatever_is_raised(self._manager.close)
        except Exception:
            if error is None:  # else it would hide the error that ends the run
                raise
        finally:
            if jax.process_index() == 0:
                if folder_identity(self.directory) != self._identity:
                    remove_second_folder(self.directory)
                with suppress(OSError):
                    os.rmdir(self.directory)  # only if it is empty: nothing was saved

    def steps(self) -> list[int]:
        """Steps that can be restored, in order."""
        return sorted(self._manager.all_steps())

    def _keep_damaged_scores(self) -> None:
        self._not_known.update(damaged_scores(self.directory, self.steps()))
        if self._not_known and jax.process_index() == 0:
            steps = listed(sorted(self._not_known))
            say(f"{self.directory}: {SCORE_FILE} of step {steps} is damaged; the checkpoint is kept")

    def save(self, step: int, state: TrainState, position: dict, manifest: Manifest) -> None:
        """Copies the state to the host and writes it in the background. Does nothing if the step is already saved."""
        if step == self._latest or step in self._manager.all_steps():
            return
        self._check_in_place()
        variables, optimizer = _split(_to_host(state))
        digests = {"variables": digest(variables), "optimizer": digest(optimizer), "data": json_digest(position)}
        if unlike := difference("checkpoint", lambda: {"": digests}):
            say(f"step {step:,}: {unlike} differ from process 0, whose state is saved: a faulty device or processor?")
        if self._own_folder and jax.process_index() != 0:
            self._latest = step
            return
        items = ocp.args.Composite(
            variables=ocp.args.StandardSave(variables),
            optimizer=ocp.args.StandardSave(optimizer),
            data=ocp.args.JsonSave(position),
            manifest=ocp.args.JsonSave(sealed(manifest, step, digests)),
        )
        with self._writing():
            self._manager.save(step, args=items)

    def score(self, step: int, ap: float) -> None:
        """Writes the score of a saved step into its checkpoint. The highest score decides which checkpoint is best."""
        with self._writing():
            self._manager.wait_until_finished()
        self._check_in_place()
        self.scores[step] = ap
        self._not_known.discard(step)
        if jax.process_index() == 0:
            path = Path(self.directory, str(step), SCORE_FILE)
            write_json(path, score_content(step, ap))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns exceptions about the disk into a WriteError, and whatever Orbax raises because the folder is gone."""
        try:
            with writing_arrays(self.directory):
                yield
        except UserError:
            raise
        except Exception:
            self._check_in_place()
            raise

    def _check_in_place(self) -> None:
        """Raises WriteError if the folder was moved or deleted: a new one would hold a part of the run alone."""
        found = folder_identity(self.directory)
        if found != self._identity:
            raise WriteError(
                self.directory,
                expected="the folder that this run began to write",
                found="none" if found is None else "another",
                remedy="move it back",
            )

    def restore(self, state: TrainState, manifest: Manifest, extend: bool = False) -> Restored | None:
        """Restores the latest intact checkpoint as numpy in the structure of `state` (arrays or shapes); None if new.

        With `extend`, and more steps in `manifest` than in the checkpoint, a new schedule starts. A damaged checkpoint
        is reported and renamed to <step>.damaged, and the previous one is restored. Each process reads by itself, and
        the chosen steps are compared. Raises UserError if they differ (then nothing is renamed), the run in the workdir
        is not the run described by `manifest`, all checkpoints are damaged, or the disk cannot be read.
        """
        damaged: list[_Damaged] = []
        with open_reader(self.directory) as reader:
            restored = self._latest_intact(reader, state, manifest, extend, damaged)
        self._compare_steps(restored, damaged)
        if restored is None and damaged:
            raise _all_damaged(self.directory, damaged)
        if restored is not None:
            self._set_aside(damaged, f"resuming from step {restored.step}")
        return restored

    def _latest_intact(
        self,
        reader: ocp.CheckpointManager,
        state: TrainState,
        manifest: Manifest,
        extend: bool,
        damaged: list[_Damaged],
    ) -> Restored | None:
        """None without one. Adds the damaged ones."""
        for step in sorted(reader.all_steps(), reverse=True):
            where = f"checkpoint {os.path.join(self.directory, str(step))}"
            try:
                theirs = read_manifest(reader, step)
            except Exception as error:
                raise_unless_damage(error, where)
                damaged.append(_Damaged(step, where, error))
                continue
            check_format(theirs, where)
            check_classes(theirs, tuple(manifest["class_names"]), where)
            check_config(theirs, manifest["config"], step, where, extend)
            check_parameters(theirs, state.params, where)
            start = schedule_start(theirs, manifest["config"], step, extend)
            try:
                return self._read(reader, step, theirs, state, start)
            except Exception as error:
                raise_unless_damage(error, where)
                damaged.append(_Damaged(step, where, error))
        return None

    def _compare_steps(self, restored: Restored | None, damaged: Sequence[_Damaged]) -> None:
        """Raises UserError in all processes if they did not choose the same step."""
        chosen = "none" if restored is None else f"step {restored.step}"
        try:
            compare("checkpoint", lambda: {"latest intact checkpoint:": chosen})
        except UserError:
            for _, where, error in damaged:
                say(f"{where} is damaged ({first_line(error)})")
            raise

    def _read(
        self, reader: ocp.CheckpointManager, step: int, manifest: Manifest, state: TrainState, start: int
    ) -> Restored:
        for item in ("variables", "optimizer"):
            check_claims(Path(self.directory, str(step), item))
        variables, optimizer = _split(jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), state))
        items = reader.restore(
            step,
            args=ocp.args.Composite(
                variables=ocp.args.StandardRestore(variables),
                optimizer=ocp.args.StandardRestore(optimizer),
                data=ocp.args.JsonRestore(),
            ),
        )
        verify(items.variables, manifest["digests"]["variables"])
        verify(items.optimizer, manifest["digests"]["optimizer"])
        if json_digest(items.data) != manifest["digests"]["data"]:
            raise ValueError("the position in the data does not have the digest it was saved with")
        return Restored(step, TrainState(**items.variables, **items.optimizer), items.data, start)

    def _set_aside(self, damaged: Sequence[_Damaged], then: str) -> None:
        for step, where, error in damaged:
            self.scores.pop(step, None)
            aside = unused_path(Path(self.directory, f"{step}.damaged"))
            if jax.process_index() == 0:
                say(f"{where} is damaged ({first_line(error)}); renamed to {aside}, {then}")
            if jax.process_index() == 0 or self._own_folder:
                os.rename(os.path.join(self.directory, str(step)), aside)
        if damaged:
            multihost_utils.sync_global_devices("damaged checkpoints set aside")
            self._manager.reload()


class _LatestTwoAndBest:
    """Orbax preservation policy. max_to_keep with best_fn would delete the latest, so resuming would repeat steps."""

    def __init__(self, scores: dict[int, float], not_known: set[int]) -> None:
        self.scores, self.not_known = scores, not_known

    def should_preserve(self, checkpoints: Sequence, *, context: object) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*sorted(steps)[-2:], best_step(self.scores, steps), *self.not_known}
        return [step in kept for step in steps]


def _split(state: TrainState) -> tuple[dict, dict]:
    """(fields for evaluation, fields only for training)."""
    # Checkpoints of earlier versions have no `dynamic`.
    fields = {name: leaf for name, leaf in state._asdict().items() if name != "dynamic" or leaf is not None}
    variables = {name: fields.pop(name) for name in ("params", "batch_stats", "ema_params")}
    return variables, fields


def _to_host(state: TrainState) -> TrainState:
    # A copy: on the CPU the next step would overwrite the buffer of a view.
    return jax.tree.map(lambda leaf: np.array(leaf.addressable_data(0)), state)


def _all_damaged(directory: str, damaged: Sequence[_Damaged]) -> UserError:
    steps = ", ".join(str(step) for step, _, _ in damaged)
    return UserError(
        directory,
        expected="an intact checkpoint",
        found=f"only damaged ones (steps {steps}; {first_line(damaged[0][2])})",
        remedy="restore one from a backup, or train in another workdir",
    )
