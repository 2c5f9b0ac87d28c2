"""The metrics of a run: metrics.jsonl, trackers as TensorBoard, and the check that losses and parameters are finite.

metrics.jsonl has one JSON object per line, sorted by step (the number of completed steps):

    {"step": 20, "total": 1.9, "rpn_box": 0.1, ..., "grad_norm": 3.2, "lr": 0.0004}      every log_every steps
    {"step": 100, "eval": {"AP": 0.21, ...}, "per_class": {"crane": 0.18, ...}}          every evaluation
    {"step": 100, "eval": ..., "per_class": ..., "losses": {"total": 1.2, ...}}          with eval_losses
    {"step": 100, "eval": ..., "per_class": ..., "eval_raw": {"AP": 0.19, ...}}          with eval_raw

The file contains no times: a resumed run and an uninterrupted run write the same file.
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from lga_jax.errors import UserError
from lga_jax.files import make_folder, null_for_nan, write_atomically
from lga_jax.training.metrics_file import MetricsFile
from lga_jax.training.optimizer import Schedule
from lga_jax.training.trackers.tracker import Tracker


class TrainingDivergedError(UserError):
    """A loss, the gradient norm or a parameter is inf or nan."""


class MetricsLog:
    """Writes the metrics of a run, as a context manager. All processes check the values; process 0 writes.

    The metrics of a step are read after the next step has started, so the devices do not wait for the host.
    """

    def __init__(
        self,
        workdir: str,
        start_step: int,
        log_every: int,
        batch_size: int,
        schedule: Schedule,
        trackers: Sequence[Tracker],
    ) -> None:
        """Opens the log for a run at `start_step`: lines of later steps are removed, because the run repeats them.

        `trackers` get the same numbers, and pictures; none in processes other than 0.
        """
        self.latest: dict[str, float] = {}  # the metrics that were read last
        self._file = MetricsFile(workdir, start_step)
        self.evaluations = self._file.evaluations
        self.evaluation_losses = self._file.evaluation_losses
        self._log_every, self._batch_size, self._schedule = log_every, batch_size, schedule
        self._pending: tuple[int, Mapping[str, Array]] | None = None
        self._last_log = None
        self._samples = Path(workdir, "samples")
        self._trackers = trackers

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def push(self, step: int, metrics: Mapping[str, Array]) -> None:
        """Stores the metrics of a step that has just started and reads the metrics of the previous step.

        Raises TrainingDivergedError if a value of the previous step is not finite.
        """
        previous, self._pending = self._pending, (step, metrics)
        if previous:
            self._read(*previous)

    def flush(self) -> None:
        """Reads the metrics of the last step. Call it before saving a checkpoint."""
        previous, self._pending = self._pending, None
        if previous:
            self._read(*previous)

    def check_state(self, step: int, tree: PyTree) -> None:
        """Raises TrainingDivergedError if an array is not finite. The losses before the update may be finite."""
        if not _all_finite(tree):
            raise TrainingDivergedError(
                f"step {step}",
                expected="finite parameters",
                found="inf or nan after the update",
                remedy=_REMEDY,
            )

    def evaluated(
        self,
        step: int,
        summary: Mapping[str, float],
        per_class: Mapping[str, float],
        losses: Mapping[str, float] | None = None,
        raw: Mapping[str, float] | None = None,
    ) -> None:
        """Writes the result of an evaluation. `raw`: the summary of the parameters without the moving average."""
        self.evaluations[step] = summary["AP"]
        line = {"step": step, "eval": null_for_nan(summary), "per_class": null_for_nan(per_class)}
        if losses:
            self.evaluation_losses[step] = losses["total"]
            line["losses"] = null_for_nan(losses)
            self._draw(step, {f"eval_losses/{name}": value for name, value in losses.items()})
        if raw:
            line["eval_raw"] = null_for_nan(raw)
            self._draw(step, {f"eval_raw/{name}": value for name, value in raw.items()})
        self._file.write(line)
        self.restart_clock()
        self._draw(step, {f"eval/{name}": value for name, value in summary.items()})
        self._draw(step, {f"eval_per_class/{name}": value for name, value in per_class.items()})

    def pictures(self, step: int, jpegs: Mapping[str, bytes]) -> None:
        """Adds sample pictures to the trackers, and replaces those in WORKDIR/samples."""
        for tracker in self._trackers if jpegs else ():
            tracker.add_images(step, {f"samples/{name}": jpeg for name, jpeg in jpegs.items()})
        if self._trackers and jpegs:
            make_folder(self._samples)
            for name, jpeg in jpegs.items():
                write_atomically(self._samples / f"{name}.jpg", jpeg)

    def restart_clock(self) -> None:
        """Excludes the time since the last log from the images per second: it was not spent on training."""
        self._last_log = None

    def _read(self, step: int, metrics: Mapping[str, Array]) -> None:
        self.latest = {name: float(value) for name, value in sorted(jax.device_get(dict(metrics)).items())}
        if not all(map(math.isfinite, self.latest.values())):
            values = ", ".join(f"{name} {value:g}" for name, value in self.latest.items())
            raise TrainingDivergedError(
                f"step {step}",
                expected="finite losses and gradient norm",
                found=str(values),
                remedy=_REMEDY,
            )
        if step % self._log_every == 0:
            values = self.latest | {"lr": float(self._schedule(step - 1))}
            self._file.write({"step": step, **values})
            self._draw(step, {f"train/{name}": value for name, value in (values | self._speed()).items()})

    def _speed(self) -> dict[str, float]:
        before, self._last_log = self._last_log, time.monotonic()
        return {"images_per_second": self._log_every * self._batch_size / (self._last_log - before)} if before else {}

    def _draw(self, step: int, values: Mapping[str, float]) -> None:
        for tracker in self._trackers:
            tracker.add(step, {name: value for name, value in values.items() if math.isfinite(value)})


_REMEDY = (
    "lower optim.lr, set optim.clip_norm or increase optim.warmup_steps, and train in a new workdir; the last "
    "checkpoint has finite values"
)


@jax.jit
def _all_finite(tree: PyTree) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
