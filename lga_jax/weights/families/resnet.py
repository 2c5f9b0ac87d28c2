"""Examines the ResNet in a weight file."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from lga_jax.errors import UserError
from lga_jax.models.backbones.resnet import ARCHITECTURES, BASIC, BOTTLENECK
from lga_jax.weights.files import Weights
from lga_jax.weights.layouts import Layout


def examine_resnet(layout: Layout, weights: Weights, model: Mapping[str, Any]) -> tuple[str, dict[str, Any], set[str]]:
    """Returns a title, the keys of `model` with the values of the file, and keys without effect on this network.

    The file may contain only a part of a network. Raises UserError for a variant of ResNet, and for an unknown size,
    unless it is the beginning of the model's backbone.
    """
    _check_plain(layout, weights)
    kind, blocks = found_blocks(layout, weights.arrays)
    depth = next((depth for depth, built in ARCHITECTURES.items() if built == (kind, blocks)), None)
    irrelevant = set() if kind == BOTTLENECK else {"backbone.stride_in_1x1"}
    if depth:
        return f"ResNet-{depth}", {"backbone.depth": depth}, irrelevant
    if not _is_part(kind, blocks, model["backbone"]["depth"]):
        raise UserError(
            f"weights {weights.where}",
            expected=f"a ResNet of {', '.join(map(str, ARCHITECTURES))} layers or the first layers of the recipe's",
            found=f"one with {blocks} {kind} blocks",
            remedy="use other weights",
        )
    return f"a part with {sum(blocks)} blocks", {}, irrelevant


def found_blocks(layout: Layout, arrays: Collection[str]) -> tuple[str, tuple[int, ...]]:
    """Kind of the residual blocks in a file, and their number in each of the four stages."""

    def has(module: str) -> bool:
        return layout.name_of(f"params/backbone/{module}/kernel", arrays) is not None

    blocks = []
    for stage in range(1, 5):
        count = 0
        while has(f"layer{stage}_{count}/conv1") or has(f"layer{stage}_{count}/conv2"):
            count += 1
        blocks.append(count)
    bottleneck = any(has(f"layer{stage}_{block}/conv3") for stage in range(1, 5) for block in range(blocks[stage - 1]))
    return BOTTLENECK if bottleneck else BASIC, tuple(blocks)


def _check_plain(layout: Layout, weights: Weights) -> None:
    """Refuses variants of ResNet: most of their names are equal, but they compute something else."""
    where, arrays = weights.where, weights.arrays
    others = [
        name
        for name in arrays
        if layout.backbone.match(name) and not layout.plain.match(name) and not layout.ignored.match(name)
    ]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise UserError(
            f"weights {where}",
            expected="a plain ResNet",
            found=f"{others[0]}{more}, from a variant (ResNet-C or "
            "-D, squeeze-and-excitation, deformable, group norm ...)",
            remedy="use weights of a plain ResNet",
        )
    for name in [name for name in arrays if re.search(r"(?:\bconv2\.weight|_branch2b_w)$", name)]:
        array = arrays[name]
        if layout.backbone.match(name) and array.ndim == 4 and array.shape[1] < array.shape[0]:
            raise UserError(
                f"weights {where}",
                expected="a plain ResNet",
                found=f"{name} with shape {array.shape}, a grouped convolution of ResNeXt",
                remedy="use weights of a plain ResNet",
            )


def _is_part(kind: str, blocks: tuple[int, ...], depth: int) -> bool:
    """True for the first blocks of a ResNet, or for none."""
    whole_kind, whole = ARCHITECTURES[depth]
    present = [stage for stage, count in enumerate(blocks) if count]
    if not present:
        return True
    last = present[-1]
    return kind == whole_kind and blocks[:last] == whole[:last] and blocks[last] <= whole[last]
