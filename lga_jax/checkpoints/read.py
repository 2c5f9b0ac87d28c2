"""Reading a checkpoint for use: which step, its manifest, its arrays as numpy.

    workdir/checkpoints/<step>/{variables, optimizer, data, manifest, score.json}

`score.json` is there once the step was evaluated: {"AP": 0.61}, null where the evaluated images hold no objects.
"""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import orbax.checkpoint as ocp

from lga_jax.checkpoints.damage import first_line, raise_unless_damage, verify
from lga_jax.checkpoints.manifest import Manifest, check_format, check_whole
from lga_jax.errors import UserError, counted, listed

SCORE_FILE = "score.json"


class Saved(NamedTuple):
    """What evaluation and prediction need of a checkpoint."""

    step: int
    reason: str  # why this step: "the best of 3 scored checkpoints (AP 0.6100)", "the latest", "as asked"
    manifest: Manifest
    variables: dict  # numpy {'params', 'batch_stats'}; params are the moving average where the run keeps one

    @property
    def title(self) -> str:
        """For people: 'step 500, the best of 3 scored checkpoints (AP 0.6100)'."""
        return f"step {self.step:,}, {self.reason}"


def parse_step(text: str) -> int | str:
    """The value of a --step flag: 'best', 'latest' or a number. Raises UserError for anything else."""
    if text in ("best", "latest"):
        return text
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise UserError("--step", expected="best, latest or the number of a step", found=repr(text))
    return int(text)


def restore_params(workdir: str, step: int | str = "best", *, earlier: bool = False) -> Saved:
    """Reads model and manifest of a checkpoint; changes nothing in the workdir.

    Args:
        step: a number, "latest", or "best": the highest score, or the latest step where none has one.
        earlier: accept a checkpoint of an earlier format too. Its weights serve `model.init_from`; all else may differ.
    Raises UserError, with the steps there are, where the workdir, the step or an undamaged copy of it is missing, and
    for a checkpoint of another version.
    """
    directory = folder_of(workdir)
    if not os.path.isdir(directory):
        raise UserError(f"--workdir {workdir}", expected="a trained run", found=f"no {directory}", remedy="train first")
    with ocp.CheckpointManager(directory, options=ocp.CheckpointManagerOptions(create=False)) as manager:
        steps = sorted(manager.all_steps())
        wanted, reason = _choose(workdir, step, steps, read_scores(directory, steps))
        where = f"checkpoint {os.path.join(directory, str(wanted))}"
        try:
            manifest = read_manifest(manager, wanted)
            read = manager.restore(wanted, args=ocp.args.Composite(variables=ocp.args.StandardRestore())).variables
            verify(read, manifest["digests"]["variables"])
        except Exception as error:
            raise_unless_damage(error, where)
            raise UserError(
                where,
                expected="a sound checkpoint",
                found=f"damage ({first_line(error)})",
                remedy=f"give --step with another (there are: {listed([s for s in steps if s != wanted])})",
            ) from error
    check_format(manifest, where, earlier)
    params = read["params"] if read["ema_params"] is None else read["ema_params"]
    return Saved(wanted, reason, manifest, {"params": params, "batch_stats": read["batch_stats"]})


def best_step(scores: Mapping[int, float], steps: Sequence[int]) -> int | None:
    """The step with the highest score among `steps`, the later of equals; None where none has one that is a number."""
    scored = _scored(scores, steps)
    return max(scored, key=lambda step: (scores[step], step), default=None)


def read_scores(directory: str, steps: Sequence[int]) -> dict[int, float]:
    """Step -> AP of the evaluated steps; nan where the evaluated images hold no objects or the file is damaged."""
    paths = {step: Path(directory, str(step), SCORE_FILE) for step in steps}
    return {step: _read_score(path) for step, path in paths.items() if path.exists()}


def read_manifest(manager: ocp.CheckpointManager, step: int) -> Manifest:
    """Raises ValueError where it lacks what every manifest has."""
    manifest = manager.restore(step, args=ocp.args.Composite(manifest=ocp.args.JsonRestore())).manifest
    check_whole(manifest)
    return manifest


def has_checkpoint(workdir: str) -> bool:
    """Whether a run in the workdir has saved a step, damaged or not."""
    return any(path.name.isdigit() for path in Path(folder_of(workdir)).glob("*"))


def folder_of(workdir: str) -> str:
    """The folder with the checkpoints of a run."""
    return os.path.abspath(os.path.join(workdir, "checkpoints"))


def _choose(workdir: str, step: int | str, steps: Sequence[int], scores: Mapping[int, float]) -> tuple[int, str]:
    if not steps:
        raise UserError(f"--workdir {workdir}", expected="a checkpoint", found="none", remedy="train first")
    if step == "latest":
        return steps[-1], "the latest"
    if step == "best":
        best = best_step(scores, steps)
        count = len(_scored(scores, steps))
        if best is None:
            return steps[-1], "the latest, none has a score"
        return best, f"the best of {counted(count, 'scored checkpoint')} (AP {scores[best]:.4f})"
    if step not in steps:
        raise UserError(
            f"--workdir {workdir}",
            expected=f"a checkpoint of step {step}",
            found=listed(steps),
            remedy="give another --step",
        )
    return step, "as asked"


def _scored(scores: Mapping[int, float], steps: Sequence[int]) -> list[int]:
    return [step for step in steps if not math.isnan(scores.get(step, math.nan))]


def _read_score(path: Path) -> float:
    try:
        score = json.loads(path.read_text())["AP"]
        return math.nan if score is None else float(score)
    except (OSError, ValueError, KeyError, TypeError):
        return math.nan
