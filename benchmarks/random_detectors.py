"""Small detectors with random weights: every backbone family, attention and head. `benchmarks.export_proof` uses them.

The last layers are scaled, so that class scores, objectness and boxes spread as those of a trained detector do. With
plain initial weights all scores are nearly equal, and with larger ones they are exactly 1; then rounding alone decides
which box non-maximum suppression keeps.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from lga_jax.checkpoints.manifest import manifest_for_classes
from lga_jax.checkpoints.read import Saved
from lga_jax.models.build import build_detector, init_variables
from lga_jax.models.detector import Detector
from lga_jax.recipe import check, load
from lga_jax.structs import Array, Outputs

SIZE = (160, 192)  # of padded images
NUM_CLASSES = 8
_LOGITS, _OBJECTNESS = 2.0, 2.0  # standard deviation of the outputs over regions
_PROPOSAL_DELTAS, _DELTAS = 0.1, 0.5
_MASK_GAIN = 30.0  # factor of the initial last kernel of the mask head, whose masks are all near 0.5

_CASCADE = dict(attentions=("none", "lga"), positive_ious=(0.6, 0.7), coder_scales=(2.0, 3.0), loss_weights=(0.5, 0.25))
_LITE = dict(name="efficientnet_lite", variant=0, norm="bn", norm_eps=1e-3, frozen_stages=0, remat=False)
_CONVNEXT = dict(name="convnext", variant="tiny", frozen_stages=0, remat=False)
_SWIN = dict(name="swin", variant="tiny", frozen_stages=0, remat=False)
_TORCHVISION = dict(
    attention="none",
    anchors=dict(rounded=True, fixed_stride=False),
    roi_align=dict(aligned=False),
    proposals=dict(min_size=1e-3),
)

CASES: dict[str, dict[str, Any]] = {  # name: changes of the `model` section of configs/challenge.py
    "lga": {},
    "lga, concat, dense, isotropic": dict(lga=dict(mu="dense", sigma="isotropic", fusion="concat")),
    "none": dict(attention="none"),
    "cbam": dict(attention="cbam"),
    "non_local": dict(attention="non_local"),
    "squeeze_excitation": dict(attention="squeeze_excitation"),
    "deformable": dict(attention="deformable"),
    "cascade: none, none, lga": dict(attention="none", cascade=_CASCADE),
    "class-agnostic boxes, 2 convolutions": dict(box_head=dict(class_agnostic=True, num_convs=2, num_fcs=1, norm="gn")),
    "mask head": dict(mask_head=dict(enabled=True, num_convs=2, channels=32)),
    "adaptive RoIAlign": dict(roi_align=dict(sampling_ratio=0)),
    "torchvision's rules": _TORCHVISION,
    "ResNet-50, frozen_bn": dict(backbone=dict(depth=50, norm="frozen_bn")),
    "ResNet-50, bn, stride in 1x1": dict(backbone=dict(depth=50, norm="bn", stride_in_1x1=True), fpn=dict(norm="bn")),
    "EfficientNet-Lite0": dict(backbone=_LITE),
    "ConvNeXt-T": dict(backbone=_CONVNEXT),
    "Swin-T": dict(backbone=_SWIN | dict(version=1)),
    "Swin-T, version 2": dict(backbone=_SWIN | dict(version=2)),
    "ViT-S": dict(backbone=dict(name="vit", variant="small", frozen_stages=0, remat=False)),
}


def random_run(changes: Mapping[str, Any], images: np.ndarray) -> Saved:
    """A checkpoint of a detector with these changes. `images`: uint8 [b h w 3], for the spread of its outputs."""
    config = _recipe(changes)
    names = [f"class {number}" for number in range(NUM_CLASSES)]
    detector = build_detector(config.model, len(names))
    variables = _spread(detector, _not_identities(init_variables(detector, 0)), images)
    manifest = manifest_for_classes(config, names, list(range(1, len(names) + 1)), variables["params"])
    return Saved(0, "random weights", manifest, variables)


def _recipe(changes: Mapping[str, Any]) -> ConfigDict:
    config = load("challenge")
    config.data.update(eval_buckets=(SIZE,), eval_short_edge=min(SIZE), long_edge=max(SIZE))
    config.model.backbone.width, config.model.fpn.channels = 16, 32
    for section, change in changes.items():
        if section == "backbone" and "name" in change:
            config.model.backbone = ConfigDict(change)
        elif isinstance(change, dict):
            config.model[section].update(change)
        else:
            config.model[section] = change
    return check(config)


def _not_identities(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Random kernels for attentions that start as the identity; statistics of batch norms that differ from 0 and 1."""
    rng = np.random.default_rng(0)

    def leaf(path: tuple, values: jax.Array) -> np.ndarray:
        values, name = np.asarray(values), path[-1].key
        if name == "kernel" and not values.any():
            return rng.normal(0, 0.05, values.shape).astype(np.float32)
        if name in ("mean", "var"):
            return values + np.abs(rng.normal(0, 0.05, values.shape)).astype(np.float32)
        return values

    return jax.tree_util.tree_map_with_path(leaf, dict(variables))


def _spread(detector: Detector, variables: dict[str, Any], images: np.ndarray) -> dict[str, Any]:
    """Scales the pyramid's features to a standard deviation of 1, then scales and shifts the last layers."""
    image_hw = np.full((len(images), 2), images.shape[1:3], np.float32)
    run = jax.jit(functools.partial(detector.apply, method=_with_pyramid))
    params = variables["params"]
    _, pyramid = run(variables, images, image_hw)
    for number, features in enumerate(pyramid[:-1], start=2):
        layer = params["fpn"][f"output{number}"]
        layer |= {name: np.float32(values / np.std(features)) for name, values in layer.items()}
    outputs = jax.tree.map(np.asarray, run(variables, images, image_hw)[0])
    _scale(params["rpn"]["objectness"], outputs.rpn.objectness.reshape(-1, 1), _OBJECTNESS)
    _scale(params["rpn"]["deltas"], outputs.rpn.deltas.reshape(-1, 1), _PROPOSAL_DELTAS)
    for number, stage in enumerate(outputs.stages):
        head = (params[f"stages_{number}"] if number else params)["box_head"]
        used = stage.rois.valid
        _scale(head["classes"], stage.class_logits[used], _LOGITS)
        _scale(head["deltas"], stage.box_deltas[used].reshape(used.sum(), -1), _DELTAS)
    if detector.mask_head is not None:
        last = params["mask_head"]["classes"]
        last["kernel"] = last["kernel"] * np.float32(_MASK_GAIN)
    return variables


def _with_pyramid(detector: Detector, images: Array, image_hw: Array) -> tuple[Outputs, list[Array]]:
    pyramid = detector.fpn(detector.backbone(detector.normalise(images, image_hw), False), False)
    return detector(images, image_hw), pyramid


def _scale(layer: dict[str, np.ndarray], outputs: np.ndarray, spread: float) -> None:
    """Changes a layer so that each of its outputs [n o] has mean 0 and this standard deviation; or all, for o = 1."""
    mean, factor = outputs.mean(axis=0), spread / outputs.std(axis=0)
    layer["kernel"] = (layer["kernel"] * factor).astype(np.float32)
    layer["bias"] = ((layer["bias"] - mean) * factor).astype(np.float32)
