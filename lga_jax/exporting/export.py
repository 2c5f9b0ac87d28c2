"""Exports the detector of a checkpoint to a file that runs without this project."""

import os
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from lga_jax.checkpoints.manifest import OWN_DETECTOR, recipe_of
from lga_jax.checkpoints.read import Saved, restore_params
from lga_jax.errors import UserError, listed
from lga_jax.exporting.onnx_file import DTYPES, onnx_file
from lga_jax.exporting.stablehlo import stablehlo_file
from lga_jax.files import write_atomically
from lga_jax.inference.exported import HW
from lga_jax.models.build import build_detector
from lga_jax.models.detector import Detector
from lga_jax.stores.place import check_local

FORMATS = ("stablehlo", "onnx")
_LEAST_SIDE, _MOST_SIDE = 32, 4096  # pixels of a padded image


def export(
    workdir: str | os.PathLike,
    output: str | os.PathLike,
    *,
    format: str | None = None,
    step: int | str = "best",
    size: HW | None = None,
    score_threshold: float | None = None,
    dtype: str = "float32",
    detector: Detector | None = None,
) -> str:
    """Writes the detector of a checkpoint to a new file.

    Args:
        workdir: folder of a run.
        output: the new file.
        format: "stablehlo", for jax on CPUs, GPUs and TPUs; "onnx", for onnxruntime, OpenVINO and others; None: the
            extension of `output`.
        step: a number, "latest" or "best", as in `load`.
        size: (height, width) of the padded images. Images are then resized to fit into it. None: the buckets and the
            image sizes of the recipe's evaluation. An ONNX file has one size.
        score_threshold: lowest score of a detection; None: the recipe's.
        dtype: of weights and activations in an ONNX file, "float32", "float16" or "bfloat16" (for OpenVINO).
            Programs of StableHLO compute in the recipe's `model.dtype`.
        detector: the custom detector, if the run was trained with one.

    Returns:
        A line that describes the file.

    Raises:
        UserError: the output exists, the workdir or the step is missing, or an argument is out of range.
    """
    check_local(output, "output")
    path = Path(os.path.expanduser(output))
    format = _format(path, format)
    _check_dtype(dtype, format)
    _check_new(path)
    workdir = os.path.expanduser(workdir)
    saved = restore_params(str(workdir), step)
    where = f"workdir {workdir}, step {saved.step}"
    recipe = recipe_of(saved.manifest, where, OWN_DETECTOR if detector else ())
    _change(recipe, size, score_threshold)
    built = detector or build_detector(recipe.model, len(saved.manifest["class_names"]))
    sizes = [tuple(hw) for hw in recipe.data.eval_buckets or recipe.data.buckets]
    _check_finite(saved, where)
    parts = (saved, recipe, built, sizes, where)
    data = stablehlo_file(*parts) if format == "stablehlo" else onnx_file(*parts, dtype)
    write_atomically(path, data)
    shapes = listed([f"{height}x{width}" for height, width in sizes])
    return f"written: {path}, {saved.title}, images up to {shapes}, {len(data) / 2**20:.1f} MiB"


def _format(path: Path, format: str | None) -> str:
    given = path.suffix[1:] if format is None else format
    if given not in FORMATS:
        raise UserError("format", expected=listed(FORMATS, separator=" or "), found=repr(given))
    return given


def _check_dtype(dtype: str, format: str) -> None:
    if dtype not in DTYPES:
        raise UserError("dtype", expected=listed(DTYPES, separator=" or "), found=repr(dtype))
    if dtype != "float32" and format == "stablehlo":
        expected = "float32 for stablehlo, whose programs compute in the recipe's model.dtype"
        raise UserError("dtype", expected=expected, found=dtype, remedy="use the format onnx")


def _check_new(path: Path) -> None:
    if os.path.lexists(path):
        raise UserError(
            f"--output {path}",
            expected="a new file",
            found="an existing file",
            remedy="remove it or choose another name",
        )
    if not path.parent.is_dir():
        raise UserError(f"--output {path}", expected="a file in an existing folder", found=f"no {path.parent}")


def _check_finite(saved: Saved, where: str) -> None:
    for name, leaf in flatten_dict(saved.variables, sep="/").items():
        if not np.isfinite(leaf).all():
            found = f"nan or infinity in {name}"
            raise UserError(where, expected="finite parameters", found=found, remedy="train again")


def _change(recipe: ConfigDict, size: HW | None, score_threshold: float | None) -> None:
    """Puts the settings of the export into the recipe of the checkpoint."""
    if score_threshold is not None:
        if not 0 <= score_threshold <= 1:
            raise UserError("score_threshold", expected="a number from 0 to 1", found=str(score_threshold))
        recipe.inference.score_threshold = float(score_threshold)
    if size is not None:
        if any(not _LEAST_SIDE <= side <= _MOST_SIDE for side in size):
            found = "x".join(map(str, size))
            raise UserError("size", expected=f"sides from {_LEAST_SIDE} to {_MOST_SIDE} pixels", found=found)
        with recipe.ignore_type():
            # Also the settings of training, which the rules of a recipe compare with these.
            recipe.data.update(short_edges=(min(size),), buckets=(size,), scale_jitter=())
            recipe.data.update(eval_buckets=(size,), eval_short_edge=min(size), long_edge=max(size))
