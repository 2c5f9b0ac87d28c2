"""Where the numbers and pictures of a run go besides metrics.jsonl: TensorBoard's files, and W&B or MLflow.

The packages of W&B and MLflow are imported only for a recipe that names one of them.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
from ml_collections import ConfigDict

from lga_jax.errors import UserError, printable
from lga_jax.files import write_json
from lga_jax.terminal import say
from lga_jax.training.trackers.board import Board

IDS = "trackers.json"  # in the workdir: the id that W&B or MLflow gave the run, so that a resumed run continues it


@runtime_checkable
class Tracker(Protocol):
    """Takes the numbers and pictures of a run."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Adds finite scalars of a step, named as 'train/total'. A resumed run repeats steps, with equal values."""

    def add_images(self, step: int, jpegs: Mapping[str, bytes]) -> None:
        """Adds JPEG files of a step, named as 'samples/sample_0'."""

    def close(self, failed: bool) -> None:
        """Ends the tracking. `failed`: an exception ended the run."""


@contextmanager
def open_trackers(recipe: ConfigDict, workdir: str, start_step: int) -> Iterator[list[Tracker]]:
    """TensorBoard's files, and the tracker that the recipe names. Empty in all processes but the first.

    Raises UserError if a package is missing or its service refuses.
    """
    trackers: list[Tracker] = []
    failed = True
    try:
        if jax.process_index() == 0:
            trackers.append(Board(Path(workdir, "tensorboard"), start_step))
            if recipe.tracker:
                trackers.append(_Losable(recipe.tracker, _open(recipe.tracker, recipe, Path(workdir))))
        yield trackers
        failed = False
    finally:
        for tracker in trackers:
            tracker.close(failed)


def _open(name: str, recipe: ConfigDict, workdir: Path) -> Tracker:
    ids = _read_ids(workdir / IDS)
    try:
        if name == "wandb":
            from lga_jax.training.trackers.wandb_run import WandbRun as Opened
        else:
            from lga_jax.training.trackers.mlflow_run import MlflowRun as Opened
        tracker = Opened(recipe, workdir, ids.get(name))
    except Exception as error:
        raise _refusal(name, error) from error
    write_json(workdir / IDS, ids | {name: tracker.id})
    return tracker


def _refusal(name: str, error: Exception) -> UserError:
    if isinstance(error, ImportError):
        remedy = f"pip install 'lga_jax[{name}]', or --config.tracker="
        return UserError("tracker", expected=f"the package {name}", found=str(error), remedy=remedy)
    remedy = {
        "wandb": "log in with `wandb login`, or set WANDB_MODE=offline",
        "mlflow": "set MLFLOW_TRACKING_URI to a server that answers; for a folder set MLFLOW_ALLOW_FILE_STORE=true too",
    }[name]
    return UserError(f"tracker {name}", expected="a new or continued run", found=_first_line(error), remedy=remedy)


def _read_ids(path: Path) -> dict[str, Any]:
    """Empty without a file, and for a damaged one: the tracker then begins another run."""
    try:
        ids = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return {name: value for name, value in ids.items() if isinstance(value, str)} if isinstance(ids, dict) else {}


class _Losable:
    """A tracker that a run can lose: its first error is printed, and it gets nothing more."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self._name, self._tracker = name, tracker

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._call("add", step, values)

    def add_images(self, step: int, jpegs: Mapping[str, bytes]) -> None:
        self._call("add_images", step, jpegs)

    def close(self, failed: bool) -> None:
        self._call("close", failed)

    def _call(self, method: str, *arguments: object) -> None:
        if self._tracker is None:
            return
        try:
            getattr(self._tracker, method)(*arguments)
        except Exception as error:
            self._tracker = None
            say(f"tracker {self._name}: {_first_line(error)}; the run continues without it")


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return printable(text.splitlines()[0])
