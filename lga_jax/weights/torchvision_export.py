"""Exports a detector as the state dict of torchvision's fasterrcnn_resnet50_fpn or maskrcnn_resnet50_fpn, or a _v2."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from lga_jax.errors import UserError
from lga_jax.weights.compatibility import PIXEL_MEAN, PIXEL_STD, lookup
from lga_jax.weights.layouts import Slot
from lga_jax.weights.layouts.torchvision import TORCHVISION_COMPUTES, TORCHVISION_MASK_COMPUTES, torchvision_detector

EPSILON = 1e-5  # epsilon of torchvision's batch norm; also of its frozen one, except for COCO_V1
_BATCH_NORM = ("bn", "frozen_bn")

# Settings of torchvision's models, as keys of config.model. A tuple of strings: any of them.
_COMMON = {
    "attention": "none",
    "pixel_mean": PIXEL_MEAN,
    "pixel_std": PIXEL_STD,
    "backbone.width": 64,
    "backbone.norm": _BATCH_NORM,
    "backbone.stride_in_1x1": False,
    "fpn.channels": 256,
    "roi_align.crop_size": 7,
    "box_head.hidden": 1024,
    "box_head.class_agnostic": False,
    "cascade.positive_ious": (),
    **TORCHVISION_COMPUTES,
}
_MASKS = {"mask_head.num_convs": 4, "mask_head.channels": 256, **TORCHVISION_MASK_COMPUTES}
_V1 = {"fpn.norm": "none", "rpn.num_convs": 1, "box_head.num_convs": 0, "box_head.num_fcs": 2}
_V2 = {
    "backbone.depth": 50,
    "fpn.norm": _BATCH_NORM,
    "rpn.num_convs": 2,
    "box_head.num_convs": 4,
    "box_head.num_fcs": 1,
    "box_head.norm": _BATCH_NORM,
}


def torchvision_version(model: Mapping[str, Any]) -> int:
    """1 for the structure of fasterrcnn_resnet50_fpn, 2 for that of its _v2; with a mask head, of maskrcnn's.

    Raises UserError with all differing keys if `model` (config.model) is another one.
    """
    version = 2 if lookup(model, "box_head.num_convs") or lookup(model, "fpn.norm") in _BATCH_NORM else 1
    expected = _COMMON | (_V2 if version == 2 else _V1)
    if lookup(model, "mask_head.enabled"):
        expected |= _MASKS | {"mask_head.norm": _BATCH_NORM if version == 2 else "none"}
    differing = []
    for key, value in expected.items():
        found = lookup(model, key)
        same = found in value if value is _BATCH_NORM else _plain(found) == _plain(value)
        if not same:
            wanted = " or ".join(value) if value is _BATCH_NORM else value
            differing.append(f"model.{key}: expected {wanted}, found {_plain(found)}")
    if differing:
        name = "Mask" if lookup(model, "mask_head.enabled") else "Faster"
        raise UserError(
            f"a model that torchvision's {name} R-CNN (v{version}) cannot compute: {'; '.join(differing)}",
            remedy="train with these values to export",
        )
    return version


def to_torchvision(variables: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The detector's parameters under torchvision's names; class 0 is the background, then our classes in order.

    The numbers stay the same, except for a norm with another epsilon than torchvision's: its scale is corrected.
    Raises UserError if torchvision cannot compute `model`.
    """
    torchvision_version(model)
    has_masks = bool(lookup(model, "mask_head.enabled"))
    layout = torchvision_detector(model["box_head"]["num_convs"], has_masks=has_masks)
    flat = {key: np.asarray(value) for key, value in flatten_dict(dict(variables), sep="/").items()}
    state = {}
    for key, value in flat.items():
        slot = Slot.of(key)
        if slot.norm and slot.leaf == "scale" and slot.part == "backbone":
            value = _with_their_epsilon(value, _variance(flat, key), model["backbone"]["norm_eps"])
        name = layout.names(slot)[0]
        state[name] = np.ascontiguousarray(_theirs(slot, value, model["roi_align"]["crop_size"]))
        if slot.leaf == "var":
            state[name.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    return state


def _variance(flat: Mapping[str, np.ndarray], scale_key: str) -> np.ndarray:
    path = scale_key.split("/", 1)[1].removesuffix("/scale")
    return flat[f"batch_stats/{path}/var"]


def _with_their_epsilon(scale: np.ndarray, variance: np.ndarray, epsilon: float) -> np.ndarray:
    if epsilon == EPSILON:
        return scale
    variance = variance.astype(np.float64)
    return (scale * np.sqrt((variance + EPSILON) / (variance + epsilon))).astype(np.float32)


def _theirs(slot: Slot, value: np.ndarray, crop_size: int) -> np.ndarray:
    """Converts a parameter to torchvision's order of axes, crops and classes."""
    if slot.part == "box_head" and slot.module == "classes":
        value = np.roll(value, 1, axis=-1)
    elif slot.part == "box_head" and slot.module == "deltas":
        value = _with_background(value, 4)
    elif slot.part == "mask_head" and slot.module == "classes":
        value = _with_background(value, 1)
    if slot.leaf != "kernel":
        return value
    if slot.part == "mask_head" and slot.module == "deconv":
        return value.transpose(2, 3, 0, 1)
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    if slot.part == "box_head" and slot.module == "fc1":
        apart = value.reshape(crop_size, crop_size, -1, value.shape[-1])
        return apart.transpose(3, 2, 0, 1).reshape(value.shape[-1], -1)
    return value.T


def _with_background(value: np.ndarray, width: int) -> np.ndarray:
    """torchvision has a box and a mask of the background, which it does not use."""
    return np.concatenate([np.zeros((*value.shape[:-1], width), value.dtype), value], axis=-1)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value
