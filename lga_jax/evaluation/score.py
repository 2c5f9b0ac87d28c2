"""What eval.py does with a restored model: check that it is the config's, score it, print and write the result."""

import json
import os
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import jax
from ml_collections import ConfigDict

from lga_jax.data.loader import EvalLoader
from lga_jax.data.records import Source
from lga_jax.errors import UserError
from lga_jax.evaluation.compilation import compile_ahead
from lga_jax.evaluation.run import EvalResult, evaluate, lower_predictions, make_predict_step
from lga_jax.evaluation.tables import format_result, make_folder, write_result
from lga_jax.models.detector import build_detector

# Sections and keys of config.model that change neither a parameter nor what a parameter means.
_FREE = (
    *("dtype", "init_from", "init_strict", "anchor_sampling", "proposals", "roi_sampling"),
    *("backbone.frozen_stages", "backbone.remat"),
)
_BLOCKS = ("lga", "cbam", "non_local")  # sections of which only the chosen `attention` is in use


def check_model(manifest: Mapping[str, Any], model_config: ConfigDict, where: str) -> None:
    """Raises UserError where the config describes another model than the one that the checkpoint was trained as."""
    theirs, ours = (_flat(model) for model in (manifest["config"]["model"], json.loads(model_config.to_json())))
    differing = [key for key in sorted(theirs | ours) if theirs.get(key) != ours.get(key)]
    if differing:
        keys = "; ".join(f"model.{key} {theirs.get(key)!r} there, {ours.get(key)!r} here" for key in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise UserError(
            f"{where}: expected a checkpoint of the config's model, found another: {keys}{more}; "
            f"give the --config it was trained with"
        )


def score_model(
    config: ConfigDict, source: Source, variables: Mapping[str, Any], folder: str | os.PathLike
) -> EvalResult:
    """Scores the variables (on all local devices) on the source, prints the tables and writes them into the folder.

    detections.json and metrics.json that are there already are replaced only when the new ones are complete.
    Raises UserError, before anything is scored, where the folder cannot be written.
    """
    make_folder(folder)
    detector = build_detector(config.model, len(source.class_names))
    num_devices = jax.device_count()
    batch_size = -(-config.batch_size // num_devices) * num_devices  # any number of devices can score any run
    predict_step = make_predict_step(detector, config.inference)
    with closing(EvalLoader(source, config.data, batch_size, jax.local_devices())) as loader:
        compile_ahead(lower_predictions(predict_step, variables, loader))
    result = evaluate(
        predict_step,
        variables,
        source,
        config.data,
        batch_size,
        should_stop=lambda: False,
        progress=True,
    )
    print(format_result(result))
    write_result(result, folder)
    return result


def _flat(model: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The keys that matter, as {'backbone.depth': 50, ...}."""
    flat = {}
    for key, value in model.items():
        name = f"{prefix}{key}"
        if name in _FREE or (name in _BLOCKS and name != model["attention"]):
            continue
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
