"""Writes a detector as one file of StableHLO programs (lga_jax/inference/exported.py describes the file)."""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from lga_jax.checkpoints.read import Saved
from lga_jax.inference import exported
from lga_jax.inference.step import detect_in
from lga_jax.models.detector import Detector

PLATFORMS = ("cpu", "cuda", "tpu")
_DAYS = 180  # jax reads exported programs of the last six months (docs.jax.dev, "Exporting and serialization")


def stablehlo_file(saved: Saved, recipe: ConfigDict, detector: Detector, sizes: list[exported.HW], where: str) -> bytes:
    """The bytes of the file: a program for each padded size, for all of PLATFORMS, and the parameters once.

    Args:
        saved: the checkpoint.
        recipe: its recipe; `data` and `inference` hold the settings of the programs.
        detector: the detector of the recipe.
        sizes: (height, width) of padded images.
        where: the subject of errors.
    """
    parameters = {name: np.asarray(leaf) for name, leaf in flatten_dict(saved.variables, sep="/").items()}
    entries = {exported.PARAMETERS: _npz(parameters)}
    for hw in sizes:
        entries[exported.program_name(hw)] = _program(detector, recipe.inference.to_dict(), parameters, hw, where)
    header = _header(saved, recipe, sizes, {name: exported.digest(data) for name, data in entries.items()})
    return _archive({exported.HEADER: json.dumps(header, indent=1).encode(), **entries})


def _program(
    detector: Detector, inference: Mapping[str, Any], parameters: Mapping[str, np.ndarray], hw: exported.HW, where: str
) -> bytes:
    def detect(
        parameters: dict[str, Array],
        image: UInt8[Array, "h w 3"],
        image_hw: Float[Array, "2"],
        original_hw: Float[Array, "2"],
    ) -> dict[str, Array]:
        variables = {"params": {}, "batch_stats": {}} | unflatten_dict(parameters, sep="/")
        found = detect_in(detector, inference, variables, image[None], image_hw[None])
        return exported.outputs_of(found, image_hw, original_hw)

    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), dict(parameters))
    pair = jax.ShapeDtypeStruct((2,), jnp.float32)
    image = jax.ShapeDtypeStruct((*hw, 3), jnp.uint8)
    export = exported.jax_export(where)
    with _without_source_locations():
        return bytes(export.export(jax.jit(detect), platforms=PLATFORMS)(shapes, image, pair, pair).serialize())


@contextmanager
def _without_source_locations() -> Iterator[None]:
    """JAX writes paths of source files and the call stack into a program.

    They tell strangers about this machine, and the same detector would give other bytes elsewhere.
    """
    limit = jax.config.jax_traceback_in_locations_limit
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", limit)


def _header(saved: Saved, recipe: ConfigDict, sizes: list[exported.HW], digests: Mapping[str, str]) -> dict[str, Any]:
    config = json.loads(recipe.to_json())
    config["data"] |= {"train": {}, "eval": {}}  # paths of the training machine
    config["model"]["init_from"] = ""
    return {
        "format": exported.FORMAT,
        "version": exported.VERSION,
        "lga_jax": saved.manifest["version"],
        "jax": jax.__version__,
        "expires": (datetime.now(UTC) + timedelta(days=_DAYS)).isoformat(timespec="seconds"),
        "platforms": list(PLATFORMS),
        "class_names": saved.manifest["class_names"],
        "category_ids": saved.manifest["category_ids"],
        "score_threshold": recipe.inference.score_threshold,
        "max_detections": recipe.inference.max_detections,
        "sizes": [list(hw) for hw in sizes],
        "step": saved.step,
        "checkpoint": saved.reason,
        "sha256": dict(digests),
        "config": config,
    }


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    written = io.BytesIO()
    np.savez(written, **arrays)
    return written.getvalue()


def _archive(entries: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in entries.items():
            kind = zipfile.ZIP_STORED if name == exported.PARAMETERS else zipfile.ZIP_DEFLATED
            archive.writestr(name, data, kind)
    return written.getvalue()
