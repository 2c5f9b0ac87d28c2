"""Presets of augmentation: named values of the keys of `data` that change training images.

    augment(config, "strong")            in a recipe, before lines that change single values
    --config.data.augment=strong         on the command line; single values there win

A preset sets every key of `_OFF` and no other: it replaces the augmentation that the recipe had. The recipe then holds
values and no name of a preset, so there is one way to switch an augmentation on.
"""

from typing import Any

from ml_collections import ConfigDict

from lga_jax.errors import UserError
from lga_jax.recipe.nearest import closest
from lga_jax.recipe.rule import either

AUGMENT = "data.augment"  # as a key on the command line

_OFF = dict(
    scale_jitter=(),
    object_crop=0.0,
    flip_probability=0.0,
    quarter_turns=0.0,
    photometric=0.0,
    blur=0.0,
    jpeg=0.0,
    copy_paste=0.0,
)

PRESETS: dict[str, dict[str, Any]] = {
    # Images as they are, but for the choice of short_edges.
    "none": _OFF,
    # What COCO's reference recipes do.
    "standard": _OFF | dict(flip_probability=0.5),
    # For small sets and long runs: also sizes, colours, sharpness and objects of other images.
    "strong": _OFF
    | dict(scale_jitter=(0.5, 1.5), flip_probability=0.5, photometric=0.5, blur=0.1, jpeg=0.1, copy_paste=0.3),
    # Seen from above, also through a microscope: all eight orientations are alike; parts of large images.
    "aerial": _OFF | dict(object_crop=0.7, flip_probability=0.5, quarter_turns=0.75, photometric=0.3),
    # Left, right, up and down have a meaning: letters, signs, screens, documents.
    "text": _OFF | dict(scale_jitter=(0.75, 1.25), photometric=0.5, blur=0.2, jpeg=0.2),
}


def augment(config: ConfigDict, name: str) -> None:
    """Sets the augmentation of a recipe to a preset. Raises UserError for an unknown name."""
    config.data.update(preset(name))


def preset(name: str) -> dict[str, Any]:
    """The values of a preset by key of `data`. Raises UserError for an unknown name."""
    if name not in PRESETS:
        raise UserError(
            AUGMENT, expected=either((*PRESETS,)), found=repr(name), remedy=closest(name, PRESETS, "choose one of them")
        )
    return dict(PRESETS[name])
