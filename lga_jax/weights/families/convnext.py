"""Examines the ConvNeXt in a weight file."""

from collections.abc import Mapping
from typing import Any

from lga_jax.errors import UserError
from lga_jax.models.backbones.convnext import ARCHITECTURES
from lga_jax.weights.families.arrays import WITHOUT_EFFECT, refuse_variants
from lga_jax.weights.files import Weights
from lga_jax.weights.layouts import Layout


def examine_convnext(
    layout: Layout, weights: Weights, model: Mapping[str, Any]
) -> tuple[str, dict[str, Any], set[str]]:
    """Returns a title, the keys of `model` with the values of the file, and keys without effect on this network.

    Raises UserError for a variant of ConvNeXt, and for an unknown size.
    """
    refuse_variants(
        layout,
        weights,
        expected="a ConvNeXt of the first version",
        about="from a variant (as ConvNeXt V2)",
        remedy="use weights of ConvNeXt-T, -S or -B",
    )
    found = _blocks_and_channels(layout, weights)
    variant = next((variant for variant, built in ARCHITECTURES.items() if built == found), None)
    if variant is None:
        raise UserError(
            f"weights {weights.where}",
            expected=f"a whole ConvNeXt {', '.join(ARCHITECTURES)}",
            found=f"one with {found[0]} blocks and {found[1]} channels",
            remedy="use other weights",
        )
    return f"ConvNeXt {variant}", {"backbone.variant": variant}, set(WITHOUT_EFFECT)


def _blocks_and_channels(layout: Layout, weights: Weights) -> tuple[tuple[int, ...], tuple[int, ...]]:
    blocks, channels = [], []
    for stage in range(1, 5):
        count = 0
        while layout.name_of(f"params/backbone/layer{stage}_{count}/project/bias", weights.arrays):
            count += 1
        name = layout.name_of(f"params/backbone/layer{stage}_0/project/bias", weights.arrays)
        blocks.append(count)
        channels.append(weights.arrays[name].size if name else 0)
    return tuple(blocks), tuple(channels)
