"""Checks that a weight file fits the model of the recipe: architecture and input pixels."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from lga_jax.errors import UserError, shown
from lga_jax.weights.families.convnext import examine_convnext
from lga_jax.weights.families.efficientnet_lite import examine_efficientnet_lite
from lga_jax.weights.families.resnet import examine_resnet
from lga_jax.weights.families.swin import examine_swin
from lga_jax.weights.families.vit import examine_vit
from lga_jax.weights.files import Weights
from lga_jax.weights.layouts import Layout
from lga_jax.weights.layouts.layout import count_modules, found_norm
from lga_jax.weights.layouts.torchvision import TORCHVISION_COMPUTES

# ImageNet, RGB, 0..255. Caffe weights use only the mean.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
UNIT_STD = (1.0, 1.0, 1.0)
# Keys of config.model about input and computation that parameter shapes do not show.
_SILENT = ("pixel_mean", "pixel_std", "backbone.stride_in_1x1", "backbone.norm_eps")
_ANCHORS = ("anchors.sizes", "anchors.aspect_ratios")
_SEVERAL_NUMBERS = ("pixel_mean", "pixel_std", *_ANCHORS)
_FAMILIES = {
    "resnet": examine_resnet,
    "efficientnet_lite": examine_efficientnet_lite,
    "convnext": examine_convnext,
    "swin": examine_swin,
    "vit": examine_vit,
}
# The input that a network was trained on: whether in the order blue, green, red, and the keys that say the rest.
_INPUTS: dict[str, tuple[bool, dict[str, Any]]] = {
    "torchvision": (False, {"pixel_mean": PIXEL_MEAN, "pixel_std": PIXEL_STD, "backbone.stride_in_1x1": False}),
    "caffe": (True, {"pixel_mean": PIXEL_MEAN, "pixel_std": UNIT_STD, "backbone.stride_in_1x1": True}),
    "inception": (False, {"pixel_mean": (127.5, 127.5, 127.5), "pixel_std": (127.5, 127.5, 127.5)}),
    "tensorflow": (False, {"pixel_mean": (127.0, 127.0, 127.0), "pixel_std": (128.0, 128.0, 128.0)}),
}


class Fit(NamedTuple):
    """A description of a file that fits."""

    title: str
    bgr: bool  # the first convolution expects blue, green, red
    notes: list[str]  # report lines about tolerated differences


def check_fit(layout: Layout, weights: Weights, model: Mapping[str, Any], exact: bool) -> Fit:
    """Raises UserError with all keys of `model` that must change if the file does not fit.

    A file with a part of a network fits too. With `exact` the model must compute the same as the file's; otherwise
    some settings may differ (such as RoI sampling) and are listed in the notes. Anchors must always agree, because
    they define the outputs of the RPN.
    """
    title, architecture, irrelevant = _examine_backbone(layout, weights, model)
    bgr, settings, notes = _expected_input(layout, weights)
    settings |= _stated(weights, _SILENT)
    settings = {key: value for key, value in settings.items() if key not in irrelevant}
    norm, norm_notes = {}, []
    if "norm" in model["backbone"]:  # some backbones have no choice of norms
        norm, norm_notes = _backbone_norm(layout, weights, model["backbone"]["norm"])
    computed = dict(layout.computes) | _stated(weights, TORCHVISION_COMPUTES)
    firm = computed.keys() - set(layout.loose) if exact else _ANCHORS
    if not lookup(model, "mask_head.enabled"):
        computed = {key: value for key, value in computed.items() if not key.startswith("mask_head.")}
    if "rpn" not in layout.parts:
        computed = {}
    expected = architecture | _parts_behind(layout, weights, model) | norm | computed | settings
    differing = {key: value for key, value in expected.items() if not _same(key, value, lookup(model, key))}
    tolerated = (differing.keys() & computed.keys()) - settings.keys() - set(firm)
    notes += norm_notes + [
        f"model.{key} is {lookup(model, key)}, these weights were trained with {differing.pop(key)}"
        for key in sorted(tolerated)
    ]
    if differing:
        keys = "; ".join(
            f"model.{key}: expected {value}, found {lookup(model, key)}" for key, value in differing.items()
        )
        flags = " ".join(f"--config.model.{key}={_flag(value)}" for key, value in differing.items())
        recipe = ""
        if layout.recipe and differing.keys() & computed.keys():
            recipe = f" ({layout.recipe} has them; a file that was trained otherwise can say so in its metadata)"
        raise UserError(
            f"weights {weights.where}: this is {title}; {keys}",
            remedy=f"give {flags}{recipe}, or other weights",
        )
    return Fit(title, bgr, notes)


def lookup(model: Mapping[str, Any], key: str) -> Any:
    """The value of a key such as "backbone.depth"; None where there is none (older checkpoints lack some keys)."""
    for part in key.split("."):
        model = model.get(part) if isinstance(model, Mapping) else None
    return model


def _examine_backbone(
    layout: Layout, weights: Weights, model: Mapping[str, Any]
) -> tuple[str, dict[str, Any], set[str]]:
    """Returns a title of the file, the keys of its backbone, and keys without effect on this family of backbones."""
    family = model["backbone"].get("name", "resnet")  # 0.1 wrote no name
    if layout.family != family and layout.family in _FAMILIES:
        raise UserError(
            f"weights {weights.where} ({layout.title})",
            expected=f"a backbone of the recipe's family, {family}",
            found=layout.family,
            remedy="give a recipe of that family, or other weights",
        )
    if layout.family not in _FAMILIES:
        return layout.title, {}, set()
    title, keys, irrelevant = _FAMILIES[layout.family](layout, weights, model)
    return f"{layout.title}, {title}", keys, irrelevant


def _parts_behind(layout: Layout, weights: Weights, model: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the parts after the backbone, with the values that the file needs."""
    arrays = weights.arrays
    expected = {}
    if "fpn" in layout.parts:
        expected["fpn.norm"] = _norm(layout, weights, "fpn", "lateral2_norm", model["fpn"]["norm"])
    if "rpn" in layout.parts:
        expected["rpn.num_convs"] = count_modules(layout, arrays, "rpn", "conv")
    if "box_head" in layout.parts:
        for key, module in (("num_convs", "conv"), ("num_fcs", "fc")):
            expected[f"box_head.{key}"] = count_modules(layout, arrays, "box_head", module)
        if expected["box_head.num_convs"]:
            expected["box_head.norm"] = _norm(layout, weights, "box_head", "conv1_norm", model["box_head"]["norm"])
    if "mask_head" in layout.parts and lookup(model, "mask_head.enabled"):
        expected["mask_head.num_convs"] = count_modules(layout, arrays, "mask_head", "conv")
        expected["mask_head.norm"] = _norm(layout, weights, "mask_head", "conv1_norm", model["mask_head"]["norm"])
    return expected


def _backbone_norm(layout: Layout, weights: Weights, configured: str) -> tuple[dict[str, str], list[str]]:
    """The needed value of backbone.norm, and notes. A norm without statistics must stay frozen."""
    norm = _norm(layout, weights, "backbone", "norm1", configured)
    kind = found_norm(layout, weights.arrays, "backbone", "norm1")
    folded = kind == "none" and layout.name_of("params/backbone/conv1/bias", weights.arrays)
    if folded or (kind == "affine" and not layout.ours):
        return {"backbone.norm": "frozen_bn"}, []
    if norm == "none":  # a part without the stem
        return {}, []
    if configured == "gn" and norm != "gn":
        note = "model.backbone.norm is gn: of the backbone the convolutions alone are loaded; "
        return {}, [f"{note}--config.model.backbone.norm=frozen_bn takes the file's batch norm too"]
    return {"backbone.norm": norm}, []


def _norm(layout: Layout, weights: Weights, part: str, module: str, configured: str) -> str:
    """The needed kind of norm of a part; the configured kind if several kinds fit."""
    found = found_norm(layout, weights.arrays, part, module)
    if found == "affine" and layout.ours:
        return "gn"
    if found == "affine" and not (layout.affine_norms and part == "backbone"):
        raise UserError(
            f"weights {weights.where}",
            expected="batch norm with running statistics",
            found=f"a norm of {part} without (group norm has none, and other groups here)",
            remedy="give weights with batch norm",
        )
    if found == "none":
        return "none"
    return configured if configured in ("bn", "frozen_bn") else "bn"


def _stated(weights: Weights, keys: Iterable[str]) -> dict[str, Any]:
    """The keys whose values are in the metadata of the file."""
    stated = {key: value for key in keys if (value := lookup(weights.model or {}, key)) is not None}
    for key, value in stated.items():
        numbers = value if isinstance(value, list | tuple) and key in _SEVERAL_NUMBERS else [value]
        is_number = all(isinstance(number, int | float) for number in numbers)
        if not is_number or (key.startswith("pixel_") and len(numbers) != 3):
            kind = "numbers" if key in _SEVERAL_NUMBERS else "a number"
            raise UserError(
                f"weights {weights.where}: its metadata's model.{key}",
                expected=f"{'3 ' if key.startswith('pixel_') else ''}{kind}",
                found=shown(value),
                remedy="correct or remove it",
            )
    return {key: tuple(value) if isinstance(value, list) else value for key, value in stated.items()}


def _expected_input(layout: Layout, weights: Weights) -> tuple[bool, dict[str, Any], list[str]]:
    """Returns whether the file's network has BGR input, the needed keys of pixels and strides, and notes."""
    if layout.ours:
        return False, {}, []
    if layout.pixels:
        return *_INPUTS[layout.pixels], []
    mean, std = (weights.arrays.get(name) for name in ("pixel_mean", "pixel_std"))
    if mean is not None and std is not None and mean.size == std.size == 3:
        first, last = mean.reshape(3)[[0, 2]]
        bgr = bool(first <= last)
        notes = ["its pixel_mean does not show the order of channels: BGR is assumed, the default of Detectron2"]
        mean, std = (
            tuple(float(f"{value:.6g}") for value in array.reshape(3)[:: -1 if bgr else 1]) for array in (mean, std)
        )
        settings = {"pixel_mean": mean, "pixel_std": std, "backbone.stride_in_1x1": std == UNIT_STD}
        return bgr, settings, notes if first == last else []
    is_torchvision = weights.author == "torchvision" or not _sees_whole_pixels(layout, weights)
    return *_INPUTS["torchvision" if is_torchvision else "caffe"], []


def _sees_whole_pixels(layout: Layout, weights: Weights) -> bool:
    """Detects MSRA's weights, with an input deviation of about 58, in a Detectron2 file without this information.

    For the same first kernels, the variances of the first norm are then thousands of times larger than with an input
    deviation of 1. If the norm was folded, all variances are 1.
    """
    arrays = weights.arrays
    kernel = layout.name_of("params/backbone/conv1/kernel", arrays)
    variance = layout.name_of("batch_stats/backbone/norm1/bn/var", arrays)
    if kernel is None or variance is None or np.allclose(arrays[variance], 1.0, atol=1e-3):
        return True
    if arrays[kernel].ndim != 4 or arrays[variance].shape != arrays[kernel].shape[:1]:
        raise UserError(
            f"weights {weights.where}",
            expected="a convolution and as many variances",
            found=f"{kernel} with shape {arrays[kernel].shape} and {variance} with {arrays[variance].shape}",
            remedy="download the file again",
        )
    power = np.square(arrays[kernel]).reshape(len(arrays[kernel]), -1).sum(1)
    input_variance = np.median(arrays[variance] / np.maximum(power, 1e-12))
    return bool(input_variance > 58.0)  # the geometric mean of the variances 1 and 58 ** 2


def _same(key: str, expected: Any, found: Any) -> bool:
    if not isinstance(expected, tuple | list):
        return expected == found
    if not isinstance(found, tuple | list) or len(found) != len(expected):
        return False
    # Detectron's and Detectron2's means differ by half a grey value.
    tolerance = dict(rtol=0.0, atol=1.0) if key == "pixel_mean" else dict(rtol=1e-3)
    return bool(np.allclose(found, expected, **tolerance))


def _flag(value: Any) -> str:
    return f"'{tuple(value)}'" if isinstance(value, tuple | list) else str(value)
