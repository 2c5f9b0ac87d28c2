"""From a recipe to the modules of the detector."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from lga_jax.errors import UserError
from lga_jax.models.backbones import Backbone
from lga_jax.models.backbones.resnet import ARCHITECTURES, ResNet
from lga_jax.models.detector import Detector
from lga_jax.models.fpn import FPN, pyramid_strides
from lga_jax.models.layers import NORMS
from lga_jax.models.roi.attention.cbam import CBAM
from lga_jax.models.roi.attention.lga import LGAHead
from lga_jax.models.roi.attention.non_local import NonLocal
from lga_jax.models.roi.attention.none import NoAttention
from lga_jax.models.roi.box_head import BoxHead
from lga_jax.models.rpn import RPNHead
from lga_jax.structs import Targets

BACKBONES = {"resnet": ResNet}
_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def build_backbone(model: Mapping[str, Any]) -> Backbone:
    """The backbone of a recipe's `model` section. Raises UserError for a family or keys that do not exist."""
    section = dict(model["backbone"])
    family = _choose("model.backbone.name", section.pop("name", "resnet"), BACKBONES)  # 0.1 wrote no name
    return _build(family, "backbone", {"backbone": section}, dtype=_dtype(model))


def build_detector(config: ConfigDict, num_classes: int, backbone: Backbone | None = None) -> Detector:
    """The detector of `config.model` for `num_classes` foreground classes.

    backbone: a flax module to use instead of the recipe's; its own section of the recipe is then not read.
    Raises UserError for a choice that does not exist.
    """
    config = config.to_dict()
    dtype = _dtype(config)
    if backbone is None:
        _check_backbone(config["backbone"])
        backbone = build_backbone(config)
    _check_values(config, len(pyramid_strides(backbone.strides)))
    attention = {
        "lga": lambda: _build(LGAHead, "lga", config, num_classes=num_classes, dtype=dtype),
        "cbam": lambda: _build(CBAM, "cbam", config, dtype=dtype),
        "non_local": lambda: _build(NonLocal, "non_local", config, dtype=dtype),
        "none": NoAttention,
    }
    return Detector(
        backbone=backbone,
        fpn=_build(FPN, "fpn", config, strides=backbone.strides, dtype=dtype),
        rpn=_build(RPNHead, "rpn", config, anchors_per_cell=len(config["anchors"]["aspect_ratios"]), dtype=dtype),
        attention=_choose("model.attention", config["attention"], attention)(),
        box_head=_build(BoxHead, "box_head", config, num_classes=num_classes, dtype=dtype),
        num_classes=num_classes,
        pixel_mean=config["pixel_mean"],
        pixel_std=config["pixel_std"],
        anchors=config["anchors"],
        anchor_sampling=config["anchor_sampling"],
        proposals=config["proposals"],
        roi_sampling=config["roi_sampling"],
        roi_align=config["roi_align"],
        dtype=dtype,
    )


def _build(module: type[nn.Module], section: str, config: Mapping[str, Any], **others: Any) -> nn.Module:
    """The module of a section of the configuration, which a checkpoint of another version may have with other keys."""
    fields = {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(module)}
    given = config[section].keys() | others.keys()
    if odd := sorted({name for name, needed in fields.items() if needed} - given | given - fields.keys()):
        raise UserError(
            f"model.{section}",
            expected="the keys of this version",
            found=f"others (missing or unknown: {', '.join(odd)}), as a checkpoint of another version has them",
            remedy="read it by that version, or train anew",
        )
    return module(**config[section], **others)


def _dtype(model: Mapping[str, Any]) -> Any:
    return _choose("model.dtype", model["dtype"], _DTYPES)


def _check_backbone(backbone: Mapping[str, Any]) -> None:
    """What a ResNet can be."""
    if backbone.get("name", "resnet") != "resnet":
        return
    _choose("model.backbone.depth", backbone["depth"], ARCHITECTURES)
    _choose("model.backbone.norm", backbone["norm"], dict.fromkeys(NORMS))
    widths = [backbone["width"] * 2**stage for stage in range(4)]
    rules = [
        ("backbone.width", "8 or a multiple of 16", min(widths) > 0 and all(w % min(w, 16) == 0 for w in widths)),
        ("backbone.frozen_stages", "0 to 5", 0 <= backbone["frozen_stages"] <= 5),
    ]
    _check(rules, {"backbone": backbone})


def _check_values(config: Mapping[str, Any], num_levels: int) -> None:
    """Values that would fail deep inside the network, or not fail and train nothing."""
    rules = [
        ("anchors.sizes", f"{num_levels} sizes", len(config["anchors"]["sizes"]) == num_levels),
        ("anchors.aspect_ratios", "at least one", len(config["anchors"]["aspect_ratios"]) > 0),
        ("anchor_sampling.num_samples", "at least 1", config["anchor_sampling"]["num_samples"] > 0),
        ("roi_sampling.num_samples", "at least 1", config["roi_sampling"]["num_samples"] > 0),
        ("roi_align.crop_size", "at least 1", config["roi_align"]["crop_size"] > 0),
        ("roi_align.sampling_ratio", "0 (adaptive) or more", config["roi_align"]["sampling_ratio"] >= 0),
        ("fpn.norm", "none or one of " + ", ".join(NORMS), config["fpn"]["norm"] in ("none", *NORMS)),
        ("rpn.num_convs", "at least 1", config["rpn"]["num_convs"] > 0),
        ("box_head.num_fcs", "at least 1", config["box_head"]["num_fcs"] > 0),
        ("box_head.norm", "none or one of " + ", ".join(NORMS), config["box_head"]["norm"] in ("none", *NORMS)),
        (
            "box_head.dense_init",
            "detectron2 or torchvision",
            config["box_head"]["dense_init"] in ("detectron2", "torchvision"),
        ),
        ("lga.num_masks", "at least 1", config["lga"]["num_masks"] > 0),
        ("cbam.reduction", "at most fpn.channels", 0 < config["cbam"]["reduction"] <= config["fpn"]["channels"]),
        (
            "non_local.reduction",
            "at most fpn.channels",
            0 < config["non_local"]["reduction"] <= config["fpn"]["channels"],
        ),
    ]
    _check(rules, config)


def _check(rules: Iterable[tuple[str, str, bool]], config: Mapping[str, Any]) -> None:
    for key, expected, holds in rules:
        if not holds:
            part, name = key.split(".")
            raise UserError(
                f"model.{key}",
                expected=str(expected),
                found=str(config[part][name]),
                remedy="correct the config",
            )


def _choose(name: str, choice: Any, choices: Mapping[Any, Any]) -> Any:
    if choice not in choices:
        raise UserError(
            name,
            expected=f"one of {', '.join(map(str, choices))}",
            found=f"{choice!r}",
            remedy="correct the config",
        )
    return choices[choice]


def init_variables(detector: Detector, seed: int) -> dict[str, Any]:
    """Random initial 'params' and 'batch_stats' of the detector."""
    # Parameter shapes do not depend on the image size; the smallest image that reaches P6 starts fastest.
    hw = (64, 64)
    targets = Targets(jnp.zeros((1, 1, 4)), jnp.zeros((1, 1), jnp.int32), jnp.zeros((1, 1), bool))
    # XLA's own generator compiles in a third of the time that threefry takes for so many arrays.
    key = jax.random.key(seed, impl="rbg")
    variables = jax.jit(detector.init)(
        key, jnp.zeros((1, *hw, 3), jnp.uint8), jnp.asarray([hw], jnp.float32), targets, jax.random.split(key, 1)
    )
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
