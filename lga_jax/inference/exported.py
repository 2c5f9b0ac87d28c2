"""The file of an exported detector: its form, and how a Predictor runs it.

A ZIP archive with three kinds of entries:

    header.json         names, sizes, settings, versions, SHA-256 digests of the other entries
    parameters.npz      the arrays of the detector, by name
    HEIGHTxWIDTH.bin    the program for padded images of this size, serialized by jax.export

A program maps (parameters, image, image_hw, original_hw) to `outputs`. docs/export.md describes all of them.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, UInt8

from lga_jax.archives import open_archive, read_arrays
from lga_jax.checkpoints.manifest import check_names
from lga_jax.checkpoints.read import Saved
from lga_jax.errors import UserError, listed, shown
from lga_jax.structs import Array, Batch, Detections

FORMAT = "lga_jax detector, StableHLO"
VERSION = 1
HEADER, PARAMETERS = "header.json", "parameters.npz"
_WHOLE = {  # types of the entries of a header
    "jax": str,
    "expires": str,
    "platforms": list,
    "class_names": list,
    "category_ids": list,
    "config": dict,
    "step": int,
    "checkpoint": str,
    "sizes": list,
    "sha256": dict,
}

_ONNX = "run it with onnxruntime, or with OpenVINO if it is bfloat16"
_CUSTOM_CALL = b"custom_call"  # in the name of the operation, which the format stores as text

HW = tuple[int, int]


def program_name(hw: HW) -> str:
    """The name of the entry with the program for padded images of this size."""
    return f"{hw[0]}x{hw[1]}.bin"


def outputs_of(
    found: Detections, image_hw: Float[Array, "2"], original_hw: Float[Array, "2"]
) -> dict[str, Float[Array, "..."] | Array]:
    """The outputs of an exported program: detections of one image [1 d ...] in pixels of the original image [d ...].

    With equal sizes, the values do not change by a bit. The output 'masks' exists only with a mask head.
    """
    scale_xy = (image_hw / original_hw)[::-1]
    limit_xy = original_hw[::-1]

    def original(pairs: Float[Array, "1 d *n"]) -> Float[Array, "d *n"]:
        return (pairs[0].reshape(-1, 2) / scale_xy).reshape(pairs.shape[1:])

    boxes = original(found.boxes)
    masks = {"masks": found.masks[0]} if found.masks.shape[-1] else {}
    return {
        "boxes": jnp.clip(boxes.reshape(-1, 2, 2), 0.0, limit_xy).reshape(boxes.shape),
        "scores": found.scores[0],
        "labels": found.labels[0],
        "valid": found.valid[0],
        "rois": original(found.rois),
        "mask_centres": original(found.mask_centres),
        "mask_sigmas": original(found.mask_sigmas),
    } | masks


class ExportedStep:
    """The prediction step of an exported file, on one device: the form of `make_predict_step`'s result."""

    def __init__(self, programs: Mapping[HW, Callable]) -> None:
        """`programs`: the exported function of each padded size."""
        self._programs = programs

    def lower(self, variables: Mapping[str, Array], batch: Batch) -> Any:
        """Lowers the program for batches of this shape. Raises UserError if it takes or returns something else."""
        try:
            lowered = self._program(batch).lower(variables, *_rows(batch.images, batch.image_hw)[0])
            found = sorted(lowered.out_info)
        except (ValueError, TypeError) as error:
            found = shown(" ".join(str(error).split()))
        if not set(Detections._fields) - {"masks"} <= set(found) <= set(Detections._fields):
            raise UserError(
                "exported file",
                expected="programs that map its parameters and an image to detections",
                found=str(found),
                remedy="export it again",
            )
        return lowered

    def __call__(self, variables: Mapping[str, Array], batch: Batch) -> Detections:
        """Detections [1 b d ...] in pixels of the padded input, image by image."""
        program = self._program(batch)
        return _stacked([program(variables, *row) for row in _rows(batch.images, batch.image_hw)])

    def _program(self, batch: Batch) -> Callable:
        return self._programs[batch.images.shape[2:4]]


# Each of these is one small program. Operation by operation, every output would be compiled on its own.
@jax.jit
def _stacked(found: list[dict[str, Array]]) -> Detections:
    """The outputs of each image as a struct [1 b d ...]. A detector without a mask head has no output `masks`."""
    none = {"masks": jnp.zeros((len(found[0]["valid"]), 0, 0))}
    return jax.tree.map(lambda *leaves: jnp.stack(leaves)[None], *[Detections(**none | outputs) for outputs in found])


@jax.jit
def _rows(
    images: UInt8[Array, "1 b h w 3"], image_hw: Float[Array, "1 b 2"]
) -> list[tuple[UInt8[Array, "h w 3"], Float[Array, "2"], Float[Array, "2"]]]:
    """The arguments of a program for each image: pixels, size of the content, and of the original image."""
    # The original size is the size of the content: the Predictor converts to original pixels itself.
    return [(image, hw, hw) for image, hw in zip(images[0], image_hw[0], strict=True)]


class ExportedFile(NamedTuple):
    """The content of an exported file."""

    saved: Saved
    step: ExportedStep


def read_exported(path: str) -> ExportedFile:
    """Reads the file. `saved.variables` are the parameters by name; `saved.manifest` is the header.

    Raises UserError if the file is damaged, has expired, or was written for other versions or platforms.
    """
    try:
        with open_archive(path) as archive:
            header = json.loads(archive.read(HEADER))
            _check_form(header)
            _check_version(header, path)
            entries = {name: archive.read(name) for name in header["sha256"]}
        if wrong := [name for name, data in entries.items() if digest(data) != header["sha256"][name]]:
            raise ValueError(f"{listed(wrong)}: other bytes than when it was written")
        with open_archive(io.BytesIO(entries[PARAMETERS])) as archive:
            parameters = read_arrays(archive)
        programs = {hw: entries[program_name(hw)] for hw in map(tuple, header["sizes"])}
    except UserError:
        raise
    except OSError as error:
        raise UserError(path, expected="a file that can be read", found=str(error.strerror or error)) from error
    except Exception as error:  # the readers of ZIP, JSON and npz raise many types for damaged files
        raise UserError(
            path,
            expected="an exported detector (.stablehlo)",
            found=f"a damaged or other file ({shown(str(error))})",
            remedy=f"{_ONNX if path.endswith('.onnx') else 'export it again'} (docs/export.md)",
        ) from error
    _check_platform(header, path)
    step = ExportedStep({hw: jax.jit(_deserialize(data, header, path).call) for hw, data in programs.items()})
    return ExportedFile(Saved(header["step"], header["checkpoint"], header, parameters), step)


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def jax_export(subject: str) -> Any:
    """The module jax.export. Raises UserError if flatbuffers, which it needs, is missing."""
    try:
        import flatbuffers  # noqa: F401
        import jax.export
    except ImportError:
        raise UserError(
            subject,
            expected="the package flatbuffers",
            found="no such package",
            remedy="pip install 'lga_jax[export]'",
        ) from None
    return jax.export


def _check_form(header: Any) -> None:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"{HEADER} has no format {FORMAT!r}")
    if header.get("version") == VERSION:
        for key, kind in _WHOLE.items():
            if not isinstance(header.get(key), kind):
                raise ValueError(f"{HEADER} has no valid {key}")
        check_names(header)


def _check_version(header: Mapping[str, Any], path: str) -> None:
    if header["version"] != VERSION:
        raise UserError(
            path,
            expected=f"an exported detector of version {VERSION}",
            found=f"version {shown(header['version'])}",
            remedy="export it again, or install the lga_jax that wrote it",
        )
    # jax reads its own files for at least six months. The version that wrote a file reads it for ever.
    if header["jax"] != jax.__version__ and datetime.now(UTC) > datetime.fromisoformat(header["expires"]):
        raise UserError(
            path,
            expected=f"a file that has not expired, or jax {header['jax']}, which wrote it",
            found=f"expired on {header['expires'][:10]}, and jax {jax.__version__}",
            remedy="export it again",
        )


def _check_platform(header: Mapping[str, Any], path: str) -> None:
    platform = jax.default_backend()
    if ("cuda" if platform == "gpu" else platform) not in header["platforms"]:
        raise UserError(path, expected=f"a device of {listed(header['platforms'])}", found=platform)


def _deserialize(data: bytes, header: Mapping[str, Any], path: str) -> Any:
    export = jax_export(path)
    try:
        program = export.deserialize(bytearray(data))
    except Exception as error:  # jax raises many types
        raise UserError(
            path,
            expected=f"a program that jax {jax.__version__} can read",
            found=f"one that jax {header['jax']} wrote",
            remedy=f"install jax {header['jax']}, or export it again",
        ) from error
    if _CUSTOM_CALL in program.mlir_module_serialized:
        raise UserError(
            path,
            expected="operations of StableHLO only",
            found="a custom_call, which runs code of the machine",
            remedy="use a file that `lga_jax export` wrote",
        )
    return program
