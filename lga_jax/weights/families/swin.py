"""Examines the Swin Transformer in a weight file."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from lga_jax.errors import UserError
from lga_jax.models.backbones.swin import ARCHITECTURES, WINDOWS, Architecture
from lga_jax.weights.families.arrays import WITHOUT_EFFECT, size_of
from lga_jax.weights.files import Weights
from lga_jax.weights.layouts import Layout

_WITH_THESE_WINDOWS = {1: "swin_tiny_patch4_window7_224", 2: "swinv2_tiny_window8_256"}  # version: name in timm


def examine_swin(layout: Layout, weights: Weights, model: Mapping[str, Any]) -> tuple[str, dict[str, Any], set[str]]:
    """Returns a title, the keys of `model` with the values of the file, and keys without effect on this network.

    Raises UserError for an unknown size or another side of the windows.
    """
    size = partial(size_of, layout, weights)
    version = 2 if size("layer1_0/attention/logit_scale", 0) else 1
    heads = "logit_scale" if version == 2 else "bias_table"
    found = Architecture(
        tuple(_blocks(layout, weights, stage) for stage in range(1, 5)),
        size("layer1_0/attention/project/bias", 0),
        tuple(size(f"layer{stage}_0/attention/{heads}", 0 if version == 2 else 1) for stage in range(1, 5)),
    )
    variant = next((variant for variant, built in ARCHITECTURES.items() if built == found), None)
    if variant is None:
        raise UserError(
            f"weights {weights.where}",
            expected=f"a whole Swin {', '.join(ARCHITECTURES)}",
            found=f"one with {found.blocks} blocks, {found.channels} channels and {found.heads} heads",
            remedy="use other weights",
        )
    side = WINDOWS[version]
    if _num_distances(layout, weights, version) not in ((2 * side - 1) ** 2, None):
        raise UserError(
            f"weights {weights.where}",
            expected=f"windows of {side} x {side} cells",
            found="windows of another side",
            remedy=f"use other weights, as {_WITH_THESE_WINDOWS[version]}",
        )
    about = {"backbone.variant": variant, "backbone.version": version}
    return f"Swin {variant}, version {version}", about, set(WITHOUT_EFFECT)


def _num_distances(layout: Layout, weights: Weights, version: int) -> int | None:
    """Distances between the cells of a window. Version 2 stores no number for each: newer files of timm say the side
    in their name alone; None without it.
    """
    if version == 1:
        return size_of(layout, weights, "layer1_0/attention/bias_table", 0)
    tables = [array for name, array in weights.arrays.items() if name.endswith(".relative_coords_table")]
    if tables:
        return tables[0].size // 2
    named = re.findall(r"_window(?:\d+to)?(\d+)_", weights.where)
    return (2 * int(named[-1]) - 1) ** 2 if named else None  # the last: folders come before


def _blocks(layout: Layout, weights: Weights, stage: int) -> int:
    count = 0
    while layout.name_of(f"params/backbone/layer{stage}_{count}/shrink/bias", weights.arrays):
        count += 1
    return count
