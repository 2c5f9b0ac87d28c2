"""Whether a file of weights belongs to the configured model: its architecture, and the pixels it was trained on."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lga_jax.errors import UserError
from lga_jax.models.resnet import ARCHITECTURES, BOTTLENECK
from lga_jax.weights.files import Weights
from lga_jax.weights.layouts import Layout, count_modules, found_blocks, found_norm

# Of ImageNet, RGB, 0..255. Weights from Caffe know the mean alone.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
UNIT_STD = (1.0, 1.0, 1.0)
# Keys of config.model that say what a network sees and computes, without a trace in the shapes of its parameters.
_SILENT = ("pixel_mean", "pixel_std", "backbone.stride_in_1x1", "backbone.norm_eps")


class Fit(NamedTuple):
    """What a file is, where it fits."""

    title: str
    bgr: bool  # the first convolution expects blue, green, red


def check_fit(layout: Layout, weights: Weights, model: Mapping[str, Any]) -> Fit:
    """Raises UserError, with all the keys of `model` that would have to change, where the file does not belong to it.

    A part of a network fits too.
    """
    _check_plain(layout, weights)
    kind, blocks = found_blocks(layout, weights.arrays)
    depth = next((depth for depth, built in ARCHITECTURES.items() if built == (kind, blocks)), None)
    title = f"{layout.title}, ResNet-{depth}" if depth else f"{layout.title}, a part with {sum(blocks)} blocks"
    bgr, settings = _expected_input(layout, weights)
    stated = {key: lookup(weights.model or {}, key) for key in _SILENT}
    settings |= {key: value for key, value in stated.items() if value is not None}
    if kind != BOTTLENECK:
        settings.pop("backbone.stride_in_1x1", None)
    expected = _architecture(layout, weights, model, kind, blocks, depth) | settings
    differing = {key: value for key, value in expected.items() if not _same(key, value, lookup(model, key))}
    if differing:
        keys = "; ".join(
            f"model.{key}: expected {value}, found {lookup(model, key)}" for key, value in differing.items()
        )
        flags = " ".join(f"--config.model.{key}={_flag(value)}" for key, value in differing.items())
        raise UserError(f"weights {weights.where}: this is {title}; {keys}; give {flags}, or other weights")
    return Fit(title, bgr)


def lookup(model: Mapping[str, Any], key: str) -> Any:
    """The value of a key such as "backbone.depth"; None where there is none (older checkpoints lack some)."""
    for part in key.split("."):
        model = model.get(part) if isinstance(model, Mapping) else None
    return model


def _check_plain(layout: Layout, weights: Weights) -> None:
    """Variants of ResNet share most names with the plain one and compute something else."""
    where, arrays = weights.where, weights.arrays
    others = [
        name
        for name in arrays
        if layout.backbone.match(name) and not layout.plain.match(name) and not layout.ignored.match(name)
    ]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise UserError(
            f"weights {where}: expected a plain ResNet, found {others[0]}{more}, as a variant has it (ResNet-C or -D, "
            f"squeeze-and-excitation, deformable, group norm ...); give weights of the plain one"
        )
    for name in [name for name in arrays if re.search(r"\b(?:conv2\.weight|branch2b_w)$", name)]:
        array = arrays[name]
        if layout.backbone.match(name) and array.ndim == 4 and array.shape[1] < array.shape[0]:
            raise UserError(
                f"weights {where}: expected a plain ResNet, found {name} with shape {array.shape}, a grouped "
                f"convolution of ResNeXt; give weights of the plain one"
            )


def _architecture(
    layout: Layout, weights: Weights, model: Mapping[str, Any], kind: str, blocks: tuple[int, ...], depth: int | None
) -> dict[str, Any]:
    """What the config's keys would have to be for the parameters to fit."""
    arrays = weights.arrays
    ours_kind, ours = ARCHITECTURES[model["backbone"]["depth"]]
    a_part = sum(blocks) == 0 or (kind == ours_kind and all(n <= m for n, m in zip(blocks, ours, strict=True)))
    expected = {}
    if depth or not a_part:
        expected["backbone.depth"] = depth or f"one with {blocks} {kind} blocks"
    norm = _norm(layout, weights, "backbone", "norm1", model["backbone"]["norm"])
    if norm != "none" and model["backbone"]["norm"] != "gn":  # "none": folded into the convolutions
        expected["backbone.norm"] = norm
    if "fpn" in layout.parts:
        expected["fpn.norm"] = _norm(layout, weights, "fpn", "lateral2_norm", model["fpn"]["norm"])
    if "rpn" in layout.parts:
        expected["rpn.num_convs"] = count_modules(layout, arrays, "rpn", "conv")
    if "box_head" in layout.parts:
        for key, module in (("num_convs", "conv"), ("num_fcs", "fc")):
            expected[f"box_head.{key}"] = count_modules(layout, arrays, "box_head", module)
        if expected["box_head.num_convs"]:
            expected["box_head.norm"] = _norm(layout, weights, "box_head", "conv1_norm", model["box_head"]["norm"])
    return expected


def _norm(layout: Layout, weights: Weights, part: str, module: str, configured: str) -> str:
    """The kind of norm the config would have to name; as it does, where it is one of several that do."""
    found = found_norm(layout, weights.arrays, part, module)
    if found == "affine" and layout.ours:
        return "gn"
    if found == "affine" and not (layout.affine_norms and part == "backbone"):
        raise UserError(
            f"weights {weights.where}: expected batch norm with running statistics, found a norm of {part} without "
            f"(group norm has none, and other groups here); give weights with batch norm"
        )
    if found == "none":
        return "none"
    return configured if configured in ("bn", "frozen_bn") else "bn"


def _expected_input(layout: Layout, weights: Weights) -> tuple[bool, dict[str, Any]]:
    """Whether the file's network takes BGR, and the keys that its pixels and strides ask for."""
    if layout.ours:
        return False, {}
    caffe = {"pixel_mean": PIXEL_MEAN, "pixel_std": UNIT_STD, "backbone.stride_in_1x1": True}
    torchvision = {"pixel_mean": PIXEL_MEAN, "pixel_std": PIXEL_STD, "backbone.stride_in_1x1": False}
    if layout.title.startswith("torchvision"):
        return False, torchvision
    if layout.title.startswith("Caffe2"):
        return True, caffe
    mean, std = (weights.arrays.get(name) for name in ("pixel_mean", "pixel_std"))
    if mean is not None and std is not None and mean.size == std.size == 3:
        bgr = bool(mean.reshape(3)[0] < mean.reshape(3)[2])
        mean, std = (
            tuple(float(f"{value:.6g}") for value in array.reshape(3)[:: -1 if bgr else 1]) for array in (mean, std)
        )
        return bgr, {"pixel_mean": mean, "pixel_std": std, "backbone.stride_in_1x1": std == UNIT_STD}
    if weights.author == "torchvision":
        return False, torchvision
    return (True, caffe) if _sees_whole_pixels(layout, weights.arrays) else (False, torchvision)


def _sees_whole_pixels(layout: Layout, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a Detectron2 file that does not say so comes from MSRA's weights, whose input has a deviation near 58.

    There the first norm's variances are thousands of times as large for the size of the first kernels as with an input
    of deviation 1; or, where the norm was folded, they are all 1.
    """
    kernel = layout.name_of("params/backbone/conv1/kernel", arrays)
    variance = layout.name_of("batch_stats/backbone/norm1/bn/var", arrays)
    if kernel is None or variance is None or np.allclose(arrays[variance], 1.0, atol=1e-3):
        return True
    power = np.square(arrays[kernel]).reshape(len(arrays[kernel]), -1).sum(1)
    input_variance = np.median(arrays[variance] / np.maximum(power, 1e-12))
    return bool(input_variance > 58.0)  # the geometric mean of 1 and 58 squared


def _same(key: str, expected: Any, found: Any) -> bool:
    if key == "pixel_mean":  # Detectron's and Detectron2's differ by half a grey value
        return bool(np.allclose(found, expected, rtol=0.0, atol=1.0))
    if isinstance(expected, tuple | list):
        return bool(np.allclose(found, expected, rtol=1e-3))
    return expected == found


def _flag(value: Any) -> str:
    return f"'{tuple(value)}'" if isinstance(value, tuple | list) else str(value)
