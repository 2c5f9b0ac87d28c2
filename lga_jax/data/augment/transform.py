"""A transform of the user's own: any function (image, boxes, labels, rng) -> (image, boxes, labels).

data.transform names it. It gets each training image as the network would see it, without padding, after all other
augmentation, and returns an image of the same size with its boxes and labels. Every result is checked.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from lga_jax.errors import UserError, cause_in

KEY = "data.transform"

Transform = Callable[..., Any]
Sample = tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "n 4"], Int[np.ndarray, "n"]]
Transformed = tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "q 4"], Int[np.ndarray, "q"]]

_OUTSIDE = 1.0  # pixels; boxes that reach less far outside the image are clipped


def find_transform(name: str) -> Transform:
    """The function that a text names: "FILE.py:FUNCTION" or "MODULE:FUNCTION". Raises UserError."""
    place, _, function = name.rpartition(":")
    try:
        module = _run(Path(place).expanduser()) if place.endswith(".py") else importlib.import_module(place)
    except (Exception, SystemExit) as error:  # the code of a user can raise any exception
        raise UserError(
            KEY,
            expected="a file or module that can be imported",
            found=cause_in(error, Path(place).expanduser().resolve()),
        ) from error
    named = getattr(module, function, None)
    if not callable(named):
        found = _kind(named) if hasattr(module, function) else "no such name"
        raise UserError(KEY, expected=f"a function {function!r} in {place}", found=found, remedy="correct the name")
    return named


def _run(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"lga_jax_transform_{path.stem}", path.resolve())
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def apply_transform(
    transform: Transform, sample: Sample, rng: np.random.Generator, num_classes: int, name: str
) -> Transformed:
    """Calls `transform` with copies and returns its checked result; boxes are clipped to the image.

    Raises UserError with the `name` of the image if the call fails or the result is no sample.
    """
    image, boxes, labels = (array.copy() for array in sample)
    try:
        result = transform(image, boxes, labels, rng)
    except Exception as error:  # the code of a user can raise any exception
        file = getattr(getattr(transform, "__code__", None), "co_filename", "")
        raise _fault(name, "a result", cause_in(error, file)) from error
    if not isinstance(result, tuple | list) or len(result) != 3:
        raise _fault(name, "(image, boxes, labels)", _kind(result))
    image = _checked_image(result[0], sample[0].shape, name)
    boxes = _checked_boxes(result[1], sample[0].shape, name)
    return image, boxes, _checked_labels(result[2], len(boxes), num_classes, name)


def _checked_image(image: Any, shape: tuple[int, ...], name: str) -> UInt8[np.ndarray, "h w 3"]:
    expected = f"an image of type uint8 and shape {shape}, as it was given"
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != shape:
        raise _fault(name, expected, _kind(image))
    return image


def _checked_boxes(boxes: Any, shape: tuple[int, ...], name: str) -> Float[np.ndarray, "n 4"]:
    found = _numbers(boxes, "fiu")
    if found is not None and found.size == 0:
        return np.zeros((0, 4), np.float32)
    if found is None or found.ndim != 2 or found.shape[1] != 4:
        raise _fault(name, "boxes as an array of numbers of shape (n, 4)", _kind(boxes))
    found = found.astype(np.float32)
    bounds = np.array([shape[1], shape[0]] * 2, np.float32)
    with np.errstate(invalid="ignore"):
        inside = ((found >= -_OUTSIDE) & (found <= bounds + _OUTSIDE)).all(axis=1)
        inside &= (found[:, 2:] >= found[:, :2]).all(axis=1)
    if not inside.all():
        first = ", ".join(f"{value:g}" for value in found[~inside][0].tolist())
        expected = f"boxes (x1, y1, x2, y2) inside the {shape[1]} x {shape[0]} pixels"
        raise _fault(name, expected, f"({first})")
    return np.clip(found, 0, bounds)


def _checked_labels(labels: Any, num_boxes: int, num_classes: int, name: str) -> Int[np.ndarray, "n"]:
    found = _numbers(labels, "iu" if num_boxes else "fiu")  # numpy gives an empty list the type float
    if found is None or found.shape != (num_boxes,):
        raise _fault(name, f"{num_boxes} labels, one whole number for each box", _kind(labels))
    wrong = found[(found < 0) | (found >= num_classes)]
    if len(wrong):
        raise _fault(name, f"labels from 0 to {num_classes - 1}", str(wrong[0]))
    return found.astype(np.int32)


def _numbers(values: Any, kinds: str) -> np.ndarray | None:
    """An array of a dtype of one of these kinds; None for anything else."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        return None
    return array if array.dtype.kind in kinds else None


def _kind(value: Any) -> str:
    """What a value is, in words."""
    if isinstance(value, np.ndarray):
        return f"an array of type {value.dtype} and shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"


def _fault(name: str, expected: str, found: str) -> UserError:
    return UserError(KEY, expected=expected, found=f"{found}, for {name}", remedy="correct the function")
