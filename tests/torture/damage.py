"""One file of a checkpoint is damaged: nothing else than what was saved is ever used."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from lga_jax.checkpoints.manifest import make_manifest
from lga_jax.checkpoints.read import SCORE_FILE, restore_params
from lga_jax.checkpoints.write import Checkpoints
from lga_jax.commands import eval as eval_command
from lga_jax.commands import predict
from lga_jax.commands.weights import export_weights
from lga_jax.data.source import open_source
from lga_jax.errors import UserError
from lga_jax.models.build import build_detector, init_variables
from lga_jax.models.freezing import frozen_labels
from lga_jax.recipe import check, load
from lga_jax.training.optimizer import make_optimizer
from lga_jax.training.step import create_state
from tests.commands.calling import run_command
from tests.torture.journal import Result
from tests.torture.lives import Fault, undisturbed


def _flip(data: bytearray, rng: np.random.Generator) -> bytes:
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return data


def _replace(data: bytearray, rng: np.random.Generator) -> bytes:
    data[rng.integers(len(data))] ^= rng.integers(1, 256)
    return data


def _zero(data: bytearray, rng: np.random.Generator) -> bytes:
    start = rng.integers(len(data))
    end = start + rng.integers(1, len(data) - start + 1)
    return data[:start] + bytes(int(end - start)) + data[end:]


def _cut(data: bytearray, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(len(data))]


def _delete(data: bytearray, rng: np.random.Generator) -> None:
    return None


DAMAGES: tuple[Callable[[bytearray, np.random.Generator], bytes | None], ...] = (_flip, _replace, _zero, _cut, _delete)


class Sound(NamedTuple):
    """A run with several checkpoints, and what has to be read from it."""

    workdir: Path
    config: str  # the recipe's path
    like: object  # TrainState of shapes
    manifest: dict
    states: dict[int, object]  # step -> TrainState

    @property
    def steps(self) -> list[int]:
        return sorted(self.states)


class Damage:
    """Trials on copies of a run; `sound` is opened by the process that does the trials."""

    def __init__(self, sound: Sound, scratch: Path, seed: int, commands: bool = True) -> None:
        self.sound, self._scratch, self._seed, self._commands = sound, scratch, seed, commands
        self._best = restore_params(str(sound.workdir)).step

    def trial(self, number: int) -> Result:
        """Damages the latest step, or the best one."""
        rng = np.random.default_rng([self._seed, number])
        victim = self._best if number % 4 == 3 else self.sound.steps[-1]
        files = files_of(self.sound.workdir, victim)
        file = files[number % len(files)]
        damage = DAMAGES[number // len(files) % len(DAMAGES)]
        workdir = self._scratch / "damage"
        link(self.sound.workdir, workdir)
        try:
            changed = spoil(workdir / file, damage, rng)
            found = self._check(workdir, victim, file, changed)
        except Exception as error:
            return Result(number, damage.__name__[1:], f"{file}: {type(error).__name__} {error}")
        finally:
            shutil.rmtree(workdir)
        return Result(number, damage.__name__[1:], "", found)

    def _check(self, workdir: Path, victim: int, file: Path, changed: bool) -> str:
        if not changed:
            return "no byte changed"
        # A step whose score is deleted is one without a score: another may be the best.
        by_score = victim == self._best and not (file.name == SCORE_FILE and not (workdir / file).exists())
        refused = self._check_reading(workdir, "best" if by_score else victim, victim)
        older = self._check_resuming(workdir, refused, victim)
        if file.name == SCORE_FILE and by_score and not refused:
            raise Fault("a checkpoint is called the best, though a score is damaged")
        return "found" if refused or older else "without effect"

    def _check_reading(self, workdir: Path, step: int | str, victim: int) -> bool:
        """Whether it is refused."""
        try:
            saved = restore_params(str(workdir), step)
        except UserError as error:
            assert_one_line(str(error))
            if self._commands:
                self._check_commands(workdir, step)
            return True
        if saved.step != victim:
            raise Fault(f"step {saved.step} is used instead of {victim}")
        assert_equal(saved.variables, variables_of(self.sound.states[victim]))
        return False

    def _check_commands(self, workdir: Path, step: int | str) -> None:
        output = workdir / "output"
        for module, arguments in (
            (eval_command, ("--config", self.sound.config, "--output", output)),
            (predict, ("--input", self.sound.workdir, "--output", output)),
            (export_weights, ("--format", "torchvision", "--output", workdir / "out.safetensors")),
        ):
            done = run_command(module, "--workdir", workdir, "--step", step, *arguments)
            if done.status != 2:
                raise Fault(f"{module.__name__} ended with status {done.status}")
            if str(workdir) not in done.stderr:
                raise Fault(f"{module.__name__} refused something else: {done.stderr[:200]}")
            assert_one_line(done.stderr.strip())

    def _check_resuming(self, workdir: Path, refused: bool, victim: int) -> bool:
        """Whether training resumes from an older step."""
        *_, older, latest = self.sound.steps
        with Checkpoints(str(workdir)) as checkpoints:
            restored = checkpoints.restore(self.sound.like, self.sound.manifest)
        allowed = {older, latest} - ({latest} if refused else set()) if victim == latest else {latest}
        if restored.step not in allowed:
            raise Fault(f"training resumes from step {restored.step}")
        assert_equal(restored.state, self.sound.states[restored.step])
        return restored.step == older


def files_of(workdir: Path, step: int) -> list[Path]:
    """All files of a checkpoint, relative to the workdir."""
    folder = workdir / "checkpoints" / str(step)
    return sorted(path.relative_to(workdir) for path in folder.rglob("*") if path.is_file())


def link(workdir: Path, copy: Path) -> None:
    """A copy of a run's checkpoints by hard links: `spoil` makes a new file."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(workdir / "checkpoints", copy / "checkpoints", copy_function=os.link)


def spoil(file: Path, damage: Callable, rng: np.random.Generator) -> bool:
    """False if the damage left all bytes as they were."""
    data = file.read_bytes()
    changed = damage(bytearray(data), rng) if data else None
    file.unlink()
    if changed is not None:
        file.write_bytes(changed)
    return changed != data


def assert_equal(ours: object, theirs: object) -> None:
    """Raises Fault unless both trees have the same bits."""
    ours, theirs = jax.tree_util.tree_leaves_with_path(ours), jax.tree_util.tree_leaves_with_path(theirs)
    same = len(ours) == len(theirs) and all(
        path == other_path and np.asarray(leaf).tobytes() == np.asarray(other).tobytes()
        for (path, leaf), (other_path, other) in zip(ours, theirs, strict=True)
    )
    if not same:
        raise Fault("other values than the saved ones are used")


def variables_of(state: object) -> dict:
    """What evaluation uses of a state."""
    return {
        "params": state.params if state.ema_params is None else state.ema_params,
        "batch_stats": state.batch_stats,
    }


def assert_one_line(text: str) -> None:
    """Raises Fault for a traceback or several lines."""
    if len(text.splitlines()) != 1 or "Traceback" in text:
        raise Fault(f"{len(text.splitlines())} lines: {text[:200]!r}")


def open_sound(workdir: Path, config: Path) -> Sound:
    """Reads all steps of a run of the small recipe."""
    recipe = check(load(config))
    source, eval_source = (open_source(**recipe.data[part]) for part in ("train", "eval"))
    detector = build_detector(recipe.model, len(source.class_names))
    shapes = jax.eval_shape(lambda: init_variables(detector, 0))
    labels = frozen_labels(shapes["params"], detector.backbone)
    optimizer, _ = make_optimizer(recipe.optim, recipe.batch_size, recipe.num_steps, labels, 0)
    like = jax.eval_shape(lambda variables: create_state(variables, optimizer, ema=True), shapes)
    manifest = make_manifest(recipe, source, eval_source, shapes["params"])
    return Sound(workdir, str(config), like, manifest, read_states(workdir, like, manifest))


def read_states(workdir: Path, like: object, manifest: dict) -> dict[int, object]:
    """The state of each step."""
    states = {}
    for step in sorted(int(path.name) for path in (workdir / "checkpoints").iterdir()):
        alone = workdir.with_name(f"{workdir.name}_{step}")
        link(workdir, alone)
        for other in (alone / "checkpoints").iterdir():
            if other.name != str(step):
                shutil.rmtree(other)
        with Checkpoints(str(alone)) as checkpoints:
            states[step] = checkpoints.restore(like, manifest).state
        shutil.rmtree(alone)
    return states


def open_damage(scratch: Path, seed: int) -> Damage:
    """Trials on the undisturbed run of the small recipe."""
    finished, _ = undisturbed(scratch)
    return Damage(open_sound(finished.workdir, finished.folder / "small.py"), scratch, seed)
