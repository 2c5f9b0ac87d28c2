"""Weights & Biases. Its own variables choose entity, project, name and mode (WANDB_PROJECT, WANDB_MODE, ...)."""

import io
import os
from collections.abc import Mapping
from pathlib import Path

import wandb
from ml_collections import ConfigDict
from PIL import Image


class WandbRun:
    """A run of W&B. Its files are in WORKDIR/wandb."""

    def __init__(self, recipe: ConfigDict, workdir: Path, run_id: str | None) -> None:
        """Continues the run `run_id`; None: begins one. Raises exceptions of wandb."""
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "lga_jax"),
            name=os.environ.get("WANDB_NAME", workdir.resolve().name),
            id=run_id,
            resume="allow",
            dir=workdir,
            config=recipe.to_dict(),
            settings=wandb.Settings(console="off"),  # the terminal's output stays as it is
        )
        self.id = self._run.id
        # W&B's own counter cannot go back when a resumed run repeats steps, and a step is written in parts.
        self._run.define_metric("*", step_metric="step")

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def add_images(self, step: int, jpegs: Mapping[str, bytes]) -> None:
        pictures = {name: Image.open(io.BytesIO(jpeg)) for name, jpeg in jpegs.items()}
        self._run.log({"step": step, **{name: wandb.Image(image, file_type="jpg") for name, image in pictures.items()}})

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))
