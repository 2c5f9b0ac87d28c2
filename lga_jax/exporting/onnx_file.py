"""Writes a detector as an ONNX file. `onnx_writer` has the operators."""

import json
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from lga_jax.checkpoints.read import Saved
from lga_jax.errors import UserError, listed
from lga_jax.models.detector import Detector

VERSION = 1
DTYPES = ("float32", "float16", "bfloat16")  # of weights and activations; scores and boxes are float32
_RESIZING = ("eval_short_edge", "long_edge", "size_rounding", "resize")


def onnx_file(
    saved: Saved,
    recipe: ConfigDict,
    detector: Detector,
    sizes: list[tuple[int, int]],
    where: str,
    dtype: str = "float32",
) -> bytes:
    """The bytes of the file. The arguments are those of stablehlo_file; `dtype`: one of DTYPES.

    Raises UserError if the package onnx is missing, for several sizes, and for modules that are not built in.
    """
    if len(sizes) != 1:
        raise UserError(
            "size",
            expected="one size of padded images for an ONNX file",
            found=f"{len(sizes)} ({listed([f'{height}x{width}' for height, width in sizes])})",
            remedy="choose one, for example --size {}x{}".format(*sizes[0]),
        )
    try:
        from lga_jax.exporting.onnx_writer.detector import onnx_model
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise UserError(
            where, expected="the package onnx", found="no such package", remedy="pip install 'lga_jax[export]'"
        ) from None
    inference = recipe.inference.to_dict()
    texts = metadata(saved, recipe) | {"dtype": dtype}
    return onnx_model(detector, saved.variables, inference, sizes[0], texts, np.dtype(dtype))


def metadata(saved: Saved, recipe: ConfigDict) -> dict[str, str]:
    """Texts in the file; those of several values are JSON."""
    resizing: dict[str, Any] = {key: recipe.data[key] for key in _RESIZING}
    return {
        "format": "lga_jax detector",
        "version": str(VERSION),
        "lga_jax": saved.manifest["version"],
        "class_names": json.dumps(saved.manifest["class_names"]),
        "category_ids": json.dumps(saved.manifest["category_ids"]),
        "score_threshold": str(recipe.inference.score_threshold),
        "resizing": json.dumps(resizing),
        "checkpoint": saved.title,
    }
