"""Examines the Vision Transformer in a weight file."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from lga_jax.errors import UserError
from lga_jax.models.backbones.vit import ARCHITECTURES, BLOCKS, GRID, NUM_PARTS, PATCH
from lga_jax.weights.families.arrays import WITHOUT_EFFECT, refuse_variants, size_of
from lga_jax.weights.files import Weights
from lga_jax.weights.layouts import Layout

_MOST = 20  # parts that are counted


def examine_vit(layout: Layout, weights: Weights, model: Mapping[str, Any]) -> tuple[str, dict[str, Any], set[str]]:
    """Returns a title, the keys of `model` with the values of the file, and keys without effect on this network.

    Raises UserError for an unknown size, other patches or images, and for a variant with more layers in a block.
    """
    size = partial(size_of, layout, weights)
    refuse_variants(
        layout,
        weights,
        expected="a plain ViT",
        about="from a variant (as DeiT III)",
        remedy="use weights of ViT-S/16 or ViT-B/16, such as MAE's",
    )
    channels = size("layer1_0/shrink/bias", 0)
    blocks = sum(
        bool(size(f"layer{part}_{number}/shrink/bias", 0)) for part in range(1, _MOST) for number in range(BLOCKS)
    )
    variant = next((name for name, (width, _) in ARCHITECTURES.items() if width == channels), None)
    if variant is None or blocks != NUM_PARTS * BLOCKS:
        raise UserError(
            f"weights {weights.where}",
            expected=f"a whole ViT {', '.join(ARCHITECTURES)} with {NUM_PARTS * BLOCKS} blocks",
            found=f"one with {blocks} blocks and {channels} channels",
            remedy="use other weights",
        )
    patch, cells = size("stem/kernel", 3), size("stem_position", 1)
    if (patch, cells) != (PATCH, 1 + GRID * GRID):
        raise UserError(
            f"weights {weights.where}",
            expected=f"patches of {PATCH} pixels, a class token and {GRID * GRID} cells",
            found=f"patches of {patch} pixels and {cells} positions",
            remedy="use weights of 224-pixel images, as vit_base_patch16_224",
        )
    return f"ViT {variant}", {"backbone.variant": variant}, set(WITHOUT_EFFECT)
