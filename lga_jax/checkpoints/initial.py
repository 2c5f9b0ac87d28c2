"""Initial weights from a file or from a checkpoint of another run."""

from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict

from lga_jax.checkpoints.read import restore_params
from lga_jax.stores.place import is_url
from lga_jax.weights.files import Weights, read_weights


def open_weights(place: str) -> Weights:
    """Reads weights from `place`: a file, hf://ORG/REPO[@REVISION]/FILE, or the best checkpoint of a workdir.

    A workdir may be in a bucket. If no checkpoint has a score, the latest is read. Checkpoints of version 0.1 are
    accepted. As in evaluation, the parameters are the moving average if the run keeps one. Raises UserError if `place`
    cannot be read.
    """
    elsewhere = place.startswith(("hf://", "package://"))
    if elsewhere or not (is_url(place) or (Path(place) / "checkpoints").is_dir()):
        return read_weights(place)
    saved = restore_params(place, earlier=True)
    return Weights(
        where=f"{place}, {saved.title}",
        arrays={name: np.asarray(array) for name, array in flatten_dict(saved.variables, sep="/").items()},
        class_names=tuple(saved.manifest["class_names"]),
        category_ids=tuple(saved.manifest["category_ids"]),
        model=saved.manifest["config"]["model"],
    )
