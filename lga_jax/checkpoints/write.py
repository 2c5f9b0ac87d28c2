"""Checkpoints of a run: model, optimizer, data position and manifest of a step, committed as one.

    workdir/checkpoints/<step>/{variables, optimizer, data, manifest}

Every step directory appears by a rename when all of it is written; what a killed process left is never taken for one.
Arrays are written from host copies and read back as numpy, so that any number of devices and processes can read them.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from lga_jax.checkpoints.manifest import Manifest, check_classes, check_config, check_parameters
from lga_jax.errors import UserError
from lga_jax.structs import TrainState


class Restored(NamedTuple):
    """What a run goes on from."""

    step: int
    state: TrainState
    position: dict  # of the data loader


class Saved(NamedTuple):
    """What evaluation and prediction need of a checkpoint."""

    step: int
    manifest: Manifest
    variables: dict  # numpy {'params', 'batch_stats'}; params are the moving average where the run keeps one


class Checkpoints:
    """The checkpoints of a run, as a context: leaving it waits until the last one is committed.

    Kept are the latest two, to resume from, and the one with the highest score, to use.
    """

    def __init__(self, workdir: str) -> None:
        self.directory = _directory(workdir)
        try:
            os.makedirs(self.directory, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"--workdir {workdir}",
                expected="a folder that can be written",
                found=str(error.strerror),
                remedy="choose another",
            ) from error
        self.scores: dict[int, float] = {}  # step -> AP, filled by the training loop
        # Orbax's own best_fn wants the score when it saves; here a step is saved first and scored afterwards, so that
        # hours of evaluation cannot cost the steps before them.
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_LatestTwoAndBest(self.scores), cleanup_tmp_directories=True
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._manager.close()

    def steps(self) -> list[int]:
        """Steps that can be restored, in order."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: TrainState, position: dict, manifest: Manifest) -> None:
        """Copies the state to the host and returns; writing goes on behind. A saved step is left alone."""
        if step in self._manager.all_steps():
            return
        variables, optimizer = _split(_to_host(state))
        digests = {"variables": digest(variables), "optimizer": digest(optimizer)}
        items = ocp.args.Composite(
            variables=ocp.args.StandardSave(variables),
            optimizer=ocp.args.StandardSave(optimizer),
            data=ocp.args.JsonSave(position),
            manifest=ocp.args.JsonSave({**manifest, "step": step, "digests": digests}),
        )
        self._manager.save(step, args=items)

    def restore(self, state: TrainState, manifest: Manifest) -> Restored | None:
        """The latest checkpoint that can be read, as numpy in the structure of `state` (arrays or only their shapes).

        None where there is no checkpoint. A damaged one is said to be so, set aside as <step>.damaged, and the one
        before it is taken. Several processes must see the same files: damage that one of them sees alone leaves the
        others in Orbax's barrier until the runtime ends them all; nothing is set aside then.
        Raises UserError where the run in the workdir is not the one that `manifest` describes, all are damaged, or the
        disk does not answer (which says nothing against a checkpoint).
        """
        damaged = []
        for step in reversed(self.steps()):
            where = f"checkpoint {os.path.join(self.directory, str(step))}"
            try:
                theirs = _read_manifest(self._manager, step)
            except Exception as error:
                _raise_unless_damage(error, where)
                damaged.append((step, where, error))
                continue
            check_classes(theirs, tuple(manifest["class_names"]), where)
            check_config(theirs, manifest["config"], step, where)
            check_parameters(theirs, state.params, where)
            try:
                restored = self._read(step, theirs, state)
            except Exception as error:
                _raise_unless_damage(error, where)
                damaged.append((step, where, error))
                continue
            self._set_aside(damaged, f"going back to step {step}")
            return restored
        if damaged:
            raise _all_damaged(self.directory, damaged)
        return None

    def _read(self, step: int, manifest: Manifest, state: TrainState) -> Restored:
        variables, optimizer = _split(jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), state))
        items = self._manager.restore(
            step,
            args=ocp.args.Composite(
                variables=ocp.args.StandardRestore(variables),
                optimizer=ocp.args.StandardRestore(optimizer),
                data=ocp.args.JsonRestore(),
            ),
        )
        _verify(items.variables, manifest["digests"]["variables"])
        _verify(items.optimizer, manifest["digests"]["optimizer"])
        return Restored(step, TrainState(**items.variables, **items.optimizer), items.data)

    def _set_aside(self, damaged: Sequence[tuple[int, str, Exception]], then: str) -> None:
        for step, where, error in damaged:
            if jax.process_index() == 0:
                aside = _unused(self.directory, f"{step}.damaged")
                print(f"{where} is damaged ({_first_line(error)}); set aside as {aside}, {then}", flush=True)
                os.rename(os.path.join(self.directory, str(step)), aside)
        if damaged:
            multihost_utils.sync_global_devices("damaged checkpoints set aside")
            self._manager.reload()


class _LatestTwoAndBest:
    """Orbax preservation policy. max_to_keep with best_fn would delete the latest: a resumed run would go backwards."""

    def __init__(self, scores: dict[int, float]) -> None:
        self.scores = scores

    def should_preserve(self, checkpoints: Sequence, *, context: object) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*sorted(steps)[-2:], best_step(self.scores, steps)}
        return [step in kept for step in steps]


def best_step(scores: dict[int, float], steps: Sequence[int]) -> int | None:
    """The step with the highest score among `steps`, the later of equals; None where none has one that is a number."""
    scored = [step for step in steps if not math.isnan(scores.get(step, math.nan))]
    return max(scored, key=lambda step: (scores[step], step), default=None)


def restore_params(workdir: str, step: int | None = None) -> Saved:
    """Reads model and manifest of a step (None: the latest) as numpy; changes nothing in the workdir.

    Raises UserError, with the steps there are, where the workdir, the step or a sound copy of it is missing.
    """
    directory = _directory(workdir)
    if not os.path.isdir(directory):
        raise UserError(
            f"--workdir {workdir}",
            expected="a trained run",
            found=f"no {directory}",
            remedy="train first",
        )
    with ocp.CheckpointManager(directory, options=ocp.CheckpointManagerOptions(create=False)) as manager:
        steps = sorted(manager.all_steps())
        wanted = steps[-1] if step is None and steps else step
        if wanted not in steps:
            found = ", ".join(map(str, steps)) or "none"
            expected = "a checkpoint" if step is None else f"a checkpoint of step {step}"
            raise UserError(
                f"--workdir {workdir}",
                expected=expected,
                found=found,
            )
        try:
            manifest = _read_manifest(manager, wanted)
            read = manager.restore(wanted, args=ocp.args.Composite(variables=ocp.args.StandardRestore())).variables
            _verify(read, manifest["digests"]["variables"])
        except Exception as error:
            _raise_unless_damage(error, f"checkpoint {os.path.join(directory, str(wanted))}")
            others = ", ".join(str(other) for other in steps if other != wanted) or "none"
            raise UserError(
                f"checkpoint {os.path.join(directory, str(wanted))}",
                expected="a sound checkpoint",
                found=f"damage ({_first_line(error)})",
                remedy=f"give --step with another (there are: {others})",
            ) from error
    params = read["params"] if read["ema_params"] is None else read["ema_params"]
    return Saved(wanted, manifest, {"params": params, "batch_stats": read["batch_stats"]})


def digest(tree: PyTree) -> str:
    """SHA-256 over names and bytes of a tree of numpy arrays: a flipped bit on the disk must not train on."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        sha.update(f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}".encode())
        sha.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8))
    return sha.hexdigest()


def _verify(tree: PyTree, expected: str) -> None:
    if digest(tree) != expected:
        raise ValueError("its bytes do not have the digest they were saved with")


def _split(state: TrainState) -> tuple[dict, dict]:
    """What evaluation reads, and what only training needs."""
    fields = state._asdict()
    variables = {name: fields.pop(name) for name in ("params", "batch_stats", "ema_params")}
    return variables, fields


def _to_host(state: TrainState) -> TrainState:
    # A copy, not a view: on the CPU a view would be of the buffer that the next step overwrites.
    return jax.tree.map(lambda leaf: np.array(leaf.addressable_data(0)), state)


def _read_manifest(manager: ocp.CheckpointManager, step: int) -> Manifest:
    return manager.restore(step, args=ocp.args.Composite(manifest=ocp.args.JsonRestore())).manifest


def _directory(workdir: str) -> str:
    return os.path.abspath(os.path.join(workdir, "checkpoints"))


def _unused(directory: str, name: str) -> str:
    taken = sum(entry.startswith(name) for entry in os.listdir(directory))
    return os.path.join(directory, f"{name}-{taken + 1}" if taken else name)


# TensorStore raises ValueErrors that begin with a status; these are its words for a disk that does not answer.
_PASSING = ("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "UNKNOWN")


def _raise_unless_damage(error: Exception, where: str) -> None:
    """What reading raised is damage, unless it is about the disk, the rights or the memory of the moment."""
    if isinstance(error, MemoryError):
        raise error
    of_the_disk = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
    if of_the_disk or str(error).startswith(_PASSING):
        raise UserError(
            where,
            expected="to read it",
            found=_first_line(error),
            remedy="mend the disk or the rights and try again",
        ) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120] if str(error).strip() else ''}"


def _all_damaged(directory: str, damaged: Sequence[tuple[int, str, Exception]]) -> UserError:
    steps = ", ".join(str(step) for step, _, _ in damaged)
    return UserError(
        directory,
        expected="a checkpoint that can be read",
        found=f"only damaged ones (steps {steps}; {_first_line(damaged[0][2])})",
        remedy="restore them from a copy, or train in another --workdir",
    )
