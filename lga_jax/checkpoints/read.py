"""Reads a checkpoint for evaluation and prediction: chooses the step, reads its manifest and its arrays as numpy.

    workdir/checkpoints/<step>/{variables, optimizer, data, manifest, score.json}

`score.json` is written when the step is evaluated: {"AP": 0.61, "digest": ...}, or null if the
evaluated images have no objects.
"""

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from lga_jax.checkpoints.damage import check_claims, check_regular, first_line, json_digest, raise_unless_damage, verify
from lga_jax.checkpoints.manifest import Manifest, check_format, check_whole
from lga_jax.errors import UserError, counted, listed, printable
from lga_jax.stores.copies import checkpoints_to_read, complete_steps
from lga_jax.stores.place import check_place, is_url
from lga_jax.stores.store import Store

SCORE_FILE = "score.json"


class Saved(NamedTuple):
    """The parts of a checkpoint for evaluation and prediction."""

    step: int
    reason: str  # why this step: "the best of 3 scored checkpoints (AP 0.6100)", "the latest", "as requested"
    manifest: Manifest
    variables: dict  # numpy {'params', 'batch_stats'}; params are the moving average if the run keeps one

    @property
    def title(self) -> str:
        """Step and reason: 'step 500, the best of 3 scored checkpoints (AP 0.6100)'."""
        return f"step {self.step:,}, {self.reason}"


def parse_step(text: str) -> int | str:
    """The value of a --step flag: 'best', 'latest' or a number. Raises UserError for anything else."""
    if text in ("best", "latest"):
        return text
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise UserError("--step", expected="best, latest or a step number", found=repr(text))
    return int(text)


def restore_params(workdir: str, step: int | str = "best", *, earlier: bool = False) -> Saved:
    """Reads the parameters and the manifest of a checkpoint; changes nothing in the workdir.

    Args:
        workdir: the folder of the run.
        step: a number, "latest", or "best": the highest score, or the latest step if no step has a score.
        earlier: also accept earlier formats. Their weights suit `model.init_from`; other entries may differ.

    Raises UserError if the workdir or the step is missing, the checkpoint is damaged or has another format, or a score
    is damaged so that the best step is not known.
    """
    check_place(workdir)
    with checkpoints_to_read(workdir) as (local, fetch):
        return _restore(workdir, folder_of(local), fetch, step, earlier)


def _restore(workdir: str, directory: str, fetch: Callable[[int], None], step: int | str, earlier: bool) -> Saved:
    """`directory`: the checkpoints, of which `fetch` gets the files of a step."""
    shown = folder_of(workdir)
    if not os.path.isdir(directory):
        raise UserError(f"workdir {workdir}", expected="a trained run", found=f"no {shown}", remedy="train first")
    with open_reader(directory) as manager:
        steps = sorted(manager.all_steps())
        if step == "best":
            _check_scores(directory, steps)
        wanted, reason = _choose(workdir, step, steps, read_scores(directory, steps))
        where = f"checkpoint {os.path.join(shown, str(wanted))}"
        fetch(wanted)
        try:
            manifest = read_manifest(manager, wanted)
            check_claims(Path(directory, str(wanted), "variables"))
            read = manager.restore(wanted, args=ocp.args.Composite(variables=ocp.args.StandardRestore())).variables
            verify(read, manifest["digests"]["variables"])
            variables = _variables_to_use(read)
        except Exception as error:
            raise_unless_damage(error, where)
            raise UserError(
                where,
                expected="an intact checkpoint",
                found=f"a damaged one ({first_line(error)})",
                remedy=f"use another step (available: {listed([s for s in steps if s != wanted])})",
            ) from error
    check_format(manifest, where, earlier)
    return Saved(wanted, reason, manifest, variables)


def open_reader(directory: str) -> ocp.CheckpointManager:
    """A manager for reading that waits for no other process, because only this one may see a damaged file."""
    options = ocp.CheckpointManagerOptions(create=False, multiprocessing_options=alone("reader"))
    return ocp.CheckpointManager(directory, options=options)


def alone(use: str) -> ocp.options.MultiprocessingOptions:
    """Orbax works in this process by itself, and waits for no other. `use`: a name for each kind of manager."""
    this = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"{use} {this}"
    )


def best_step(scores: Mapping[int, float], steps: Sequence[int]) -> int | None:
    """The step with the highest score, the latest of equal ones; None if every score is missing or nan."""
    scored = _scored(scores, steps)
    return max(scored, key=lambda step: (scores[step], step), default=None)


def read_scores(directory: str, steps: Sequence[int]) -> dict[int, float]:
    """Step -> AP of the evaluated steps; nan if the evaluated images have no objects. Without damaged scores."""
    scores = {step: _read_score(directory, step) for step in steps if _has_score(directory, step)}
    return {step: ap for step, ap in scores.items() if ap is not None}


def damaged_scores(directory: str, steps: Sequence[int]) -> list[int]:
    """The steps whose score cannot be read. One of them may be the best."""
    return [step for step in steps if _has_score(directory, step) and _read_score(directory, step) is None]


def score_content(step: int, ap: float) -> dict[str, Any]:
    """The content of `score.json`."""
    score = {"AP": None if math.isnan(ap) else ap}
    return {**score, "digest": json_digest([step, score])}


def read_manifest(manager: ocp.CheckpointManager, step: int) -> Manifest:
    """Reads the manifest of a step. Raises ValueError if it, or a file of the step, is damaged."""
    check_regular(Path(manager.directory, str(step)))
    manifest = manager.restore(step, args=ocp.args.Composite(manifest=ocp.args.JsonRestore())).manifest
    check_whole(manifest, step)
    return manifest


def has_checkpoint(workdir: str | os.PathLike) -> bool:
    """Whether the workdir has a checkpoint, damaged or not."""
    return latest_step(workdir) is not None


def latest_step(workdir: str | os.PathLike) -> int | None:
    """The latest step with a checkpoint, damaged or not; None if there is none."""
    if is_url(workdir):
        store = Store(workdir)
        return max(complete_steps(store, store.sizes()), default=None)
    names = [path.name for path in Path(folder_of(workdir)).glob("*")]
    return max((int(name) for name in names if name.isdecimal()), default=None)


def folder_of(workdir: str) -> str:
    """The checkpoint folder of a run."""
    return f"{workdir}/checkpoints" if is_url(workdir) else os.path.abspath(os.path.join(workdir, "checkpoints"))


def _choose(workdir: str, step: int | str, steps: Sequence[int], scores: Mapping[int, float]) -> tuple[int, str]:
    if not steps:
        raise UserError(f"workdir {workdir}", expected="a checkpoint", found="none", remedy="train first")
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
            f"workdir {workdir}",
            expected=f"a checkpoint of step {step}",
            found=listed(steps),
            remedy="use another step",
        )
    return step, "as requested"


def _scored(scores: Mapping[int, float], steps: Sequence[int]) -> list[int]:
    return [step for step in steps if not math.isnan(scores.get(step, math.nan))]


def _variables_to_use(read: Mapping[str, Any]) -> dict[str, Any]:
    params = read["params"] if read["ema_params"] is None else read["ema_params"]
    return {"params": params, "batch_stats": read["batch_stats"]}


def _check_scores(directory: str, steps: Sequence[int]) -> None:
    if damaged := damaged_scores(directory, steps):
        raise UserError(
            printable(str(_score_path(directory, damaged[0]))),
            expected="the score of the step",
            found="a damaged file, so the best step is not known",
            remedy=f"choose a step (available: {listed(steps)}), or delete the file: the step then has no score",
        )


def _score_path(directory: str, step: int) -> Path:
    return Path(directory, str(step), SCORE_FILE)


def _has_score(directory: str, step: int) -> bool:
    return os.path.lexists(_score_path(directory, step))


def _read_score(directory: str, step: int) -> float | None:
    """None if the file is damaged."""
    try:
        check_regular(_score_path(directory, step))
        content = json.loads(_score_path(directory, step).read_bytes())
        ap = math.nan if content["AP"] is None else float(content["AP"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return ap if content == score_content(step, ap) else None
