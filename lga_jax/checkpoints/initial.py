"""Weights to start from: a file, or a checkpoint of another run."""

from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict

from lga_jax.checkpoints.read import restore_params
from lga_jax.weights.files import Weights, read_weights


def open_weights(place: str) -> Weights:
    """What lies at `place`: a file, hf://ORG/REPO[@REVISION]/FILE, or a workdir, whose best checkpoint is taken.

    Checkpoints of version 0.1 can be read as well; without a score, the latest is taken. The parameters are the moving
    average where the run keeps one, as evaluation uses them.
    Raises UserError for everything that cannot be read.
    """
    if place.startswith("hf://") or not (Path(place) / "checkpoints").is_dir():
        return read_weights(place)
    saved = restore_params(place, earlier=True)
    return Weights(
        where=f"{place}, {saved.title}",
        arrays={name: np.asarray(array) for name, array in flatten_dict(saved.variables, sep="/").items()},
        class_names=tuple(saved.manifest["class_names"]),
        category_ids=tuple(saved.manifest["category_ids"]),
        model=saved.manifest["config"]["model"],
    )
