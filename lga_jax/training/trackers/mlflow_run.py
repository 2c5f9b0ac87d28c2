"""MLflow. Its own variables choose server and experiment (MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME)."""

import io
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient
from PIL import Image

from lga_jax.recipe import flatten

_MOST_VALUES = 100  # parameters in a request of MLflow


class MlflowRun:
    """A run of MLflow."""

    def __init__(self, recipe: ConfigDict, workdir: Path, run_id: str | None) -> None:
        """Continues the run `run_id`; None: begins one. Raises exceptions of mlflow."""
        self._client = MlflowClient()
        if run_id:
            self._client.update_run(run_id, status="RUNNING")
            self.id = run_id
            return
        self.id = self._client.create_run(self._experiment(), run_name=workdir.resolve().name).info.run_id
        for part in _parts([Param(key, str(value)) for key, value in flatten(recipe).items()]):
            self._client.log_batch(self.id, params=part)

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "lga_jax")
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        for part in _parts([Metric(metric_name(name), value, now, step) for name, value in values.items()]):
            self._client.log_batch(self.id, metrics=part)

    def add_images(self, step: int, jpegs: Mapping[str, bytes]) -> None:
        for name, jpeg in jpegs.items():
            image = Image.open(io.BytesIO(jpeg))
            self._client.log_image(self.id, image, key=name, step=step, synchronous=True)

    def close(self, failed: bool) -> None:
        self._client.set_terminated(self.id, "FAILED" if failed else "FINISHED")


def metric_name(name: str) -> str:
    """The name of a value in MLflow, which refuses brackets and other characters: their codes replace them.

    Only the part before the first '/' stays as it is, so a class may have any name.
    """
    section, _, rest = name.partition("/")
    allowed = re.sub(r"[^-\w :]", lambda found: f"_{ord(found[0]):x}_", rest)
    return f"{section}/{allowed}"


def _parts(entries: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (entries[start : start + _MOST_VALUES] for start in range(0, len(entries), _MOST_VALUES))
