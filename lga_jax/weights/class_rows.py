"""Matches the rows of a file's class predictor to the classes of the model, by name if names are known."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lga_jax.errors import UserError, listed
from lga_jax.weights.coco_classes import COCO_CLASSES
from lga_jax.weights.files import Weights
from lga_jax.weights.layouts import Layout, Slot

# Modules with classes in the last axis -> (numbers per class, whether a background follows).
_PREDICTORS = {
    ("box_head", "classes"): (1, True),
    ("box_head", "deltas"): (4, False),
    ("attention", "guide_classes"): (1, True),
    ("mask_head", "classes"): (1, False),
}


class Rows(NamedTuple):
    """`sources`: the file's row for each class of the model, None for a new class; None: no row is loaded."""

    num_in_file: int
    sources: list[int | None] | None
    report: str


def is_predictor(slot: Slot, class_agnostic: bool = False) -> bool:
    """True if the last axis of the parameter has the classes. With `class_agnostic`, that of box deltas has not."""
    place = _place(slot)
    return place in _PREDICTORS and not (class_agnostic and place == ("box_head", "deltas"))


def _place(slot: Slot) -> tuple[str, str]:
    """Part and module; those of a later stage of a cascade as the first stage has them."""
    part, _, module = slot.module.partition("/")
    return (part, module) if slot.part.startswith("stages_") else (slot.part, slot.module)


def num_classes(layout: Layout, weights: Weights) -> int | None:
    """Number of foreground classes of a file's predictor; None without a predictor."""
    name = layout.name_of("params/box_head/classes/bias", weights.arrays)
    if name is None:
        return None
    shape = weights.arrays[name].shape
    if len(shape) != 1 or shape[0] < 2:
        raise UserError(
            f"weights {weights.where}: {name}",
            expected="one number per class and one for the background",
            found=f"shape {shape}",
            remedy="use weights of a trained detector",
        )
    return shape[0] - 1


def coco_rows(layout: Layout, num_in_file: int) -> list[str | None] | None:
    """COCO's class names of the rows if the predictor has COCO's size; otherwise None.

    torchvision's rows are category ids, ten of them unused; Detectron2's rows are the 80 classes.
    """
    if layout.background_first and num_in_file == max(COCO_CLASSES):
        return [COCO_CLASSES.get(category) for category in range(1, num_in_file + 1)]
    if not layout.background_first and not layout.ours and num_in_file == len(COCO_CLASSES):
        return list(COCO_CLASSES.values())
    return None


def match_rows(layout: Layout, weights: Weights, class_names: Sequence[str]) -> Rows | None:
    """Matches by name if the file's names are known; by position if the numbers are equal; otherwise loads no rows.

    A predictor of COCO's size counts as COCO's if one of `class_names` is a class of COCO. None without a predictor.
    """
    count = num_classes(layout, weights)
    if count is None:
        return None
    names = weights.class_names
    if names is None:
        coco = coco_rows(layout, count)
        shared = {name.casefold() for name in coco or () if name} & {name.casefold() for name in class_names}
        names = coco if shared else None
    elif len(names) != count:
        raise UserError(
            f"weights {weights.where}",
            expected=f"{count} class names, one per class of its predictor",
            found=str(len(names)),
            remedy="correct its metadata",
        )
    if names is not None:
        return _by_name(names, class_names)
    if count == len(class_names):
        return Rows(count, list(range(count)), f"{count} of {count} class rows by position: the file has no names")
    return Rows(
        count, None, f"the class predictor is not loaded: {count} classes without names there, {len(class_names)} here"
    )


def merge_rows(
    slot: Slot, initial: Float[np.ndarray, "*n o"], loaded: Float[np.ndarray, "*n p"], rows: Rows
) -> Float[np.ndarray, "*n o"]:
    """`initial` with the matched classes and the background of `loaded` (both in our layout)."""
    width, background = _PREDICTORS[_place(slot)]
    ours = initial.copy()
    for row, source in enumerate(rows.sources):
        if source is not None:
            ours[..., row * width : (row + 1) * width] = loaded[..., source * width : (source + 1) * width]
    if background:
        ours[..., -1] = loaded[..., -1]
    return ours


def file_width(slot: Slot, rows: Rows, background_first: bool) -> int:
    """Length of the last axis in the file, if its predictor differs from ours only in the classes.

    `background_first`: the file's predictors have the background as their first class, also for boxes and masks.
    """
    width, background = _PREDICTORS[_place(slot)]
    return rows.num_in_file * width + (width if background_first else background)


def background_last(slot: Slot, value: Float[np.ndarray, "*n o"]) -> Float[np.ndarray, "*n p"]:
    """An array of a file with the background first, in our order: last for classes, and none for boxes and masks."""
    width, background = _PREDICTORS[_place(slot)]
    return np.roll(value, -width, axis=-1) if background else value[..., width:]


def _by_name(names: Sequence[str | None], class_names: Sequence[str]) -> Rows:
    exact = {name: row for row, name in enumerate(names) if name}
    folded = {name.casefold(): row for name, row in exact.items()}
    sources = [exact.get(name, folded.get(name.casefold())) for name in class_names]
    new = [name for name, source in zip(class_names, sources, strict=True) if source is None]
    report = f"{len(sources) - len(new)} of {len(sources)} class rows by name"
    if new:
        report += f"; new: {listed(new, 10)}"
    if unused := len(set(range(len(names))) - set(sources)):
        report += f"; {unused} rows of the file have no class here"
    return Rows(len(names), sources, report)
