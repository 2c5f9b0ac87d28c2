"""What a file of weights says about an EfficientNet-Lite in it."""

from collections.abc import Mapping
from typing import Any

from lga_jax.errors import UserError
from lga_jax.models.backbones.efficientnet_lite import MULTIPLIERS, architecture
from lga_jax.weights.families.arrays import refuse_variants
from lga_jax.weights.files import Weights
from lga_jax.weights.layouts import Layout

_EPSILON = 1e-3  # value of all published EfficientNets


def examine_efficientnet_lite(
    layout: Layout, weights: Weights, model: Mapping[str, Any]
) -> tuple[str, dict[str, Any], set[str]]:
    """A title, the keys of `model` that the file asks for, and those which do not matter: see `examine_resnet`.

    Raises UserError for an EfficientNet that is no Lite, and for one whose size is not known.
    """
    _check_lite(layout, weights)
    for variant in MULTIPLIERS:
        if _is_whole(layout, weights, variant):
            epsilon = {} if layout.ours else {"backbone.norm_eps": _EPSILON}
            return f"EfficientNet-Lite{variant}", {"backbone.variant": variant} | epsilon, set()
    raise UserError(
        f"weights {weights.where}",
        expected=f"the whole EfficientNet-Lite {', '.join(map(str, MULTIPLIERS))}",
        found="one with other blocks",
        remedy="give other weights",
    )


def _check_lite(layout: Layout, weights: Weights) -> None:
    """An EfficientNet-B shares the names of the Lite one, and has more."""
    refuse_variants(
        layout,
        weights,
        expected="EfficientNet-Lite",
        about="which another EfficientNet has (squeeze-and-excitation)",
        remedy="give weights of EfficientNet-Lite",
    )


def _is_whole(layout: Layout, weights: Weights, variant: int) -> bool:
    """Whether the file has all blocks of the variant, in its widths."""
    axis = -1 if layout.ours else 0  # output channels of a kernel
    for part, rules in enumerate(architecture(variant)):
        for number, rule in enumerate(rules):
            name = layout.name_of(f"params/backbone/layer{part}_{number}/project/kernel", weights.arrays)
            if name is None or weights.arrays[name].shape[axis] != rule.features:
                return False
    return True
