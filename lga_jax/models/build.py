"""Builds the modules of the detector from a recipe."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from lga_jax.errors import UserError, listed
from lga_jax.models.backbones import Backbone
from lga_jax.models.backbones.convnext import ConvNeXt
from lga_jax.models.backbones.efficientnet_lite import EfficientNetLite
from lga_jax.models.backbones.resnet import ResNet
from lga_jax.models.backbones.swin import Swin
from lga_jax.models.backbones.vit import ViT
from lga_jax.models.detector import Detector
from lga_jax.models.fpn import FPN, pyramid_strides
from lga_jax.models.roi.attention import RegionAttention
from lga_jax.models.roi.attention.cbam import CBAM
from lga_jax.models.roi.attention.deformable import DeformablePooling
from lga_jax.models.roi.attention.lga import LGAHead
from lga_jax.models.roi.attention.non_local import NonLocal
from lga_jax.models.roi.attention.none import NoAttention
from lga_jax.models.roi.attention.squeeze_excitation import SqueezeExcitation
from lga_jax.models.roi.box_head import BoxHead
from lga_jax.models.roi.mask_head import MaskHead
from lga_jax.models.roi.stage import CODER_WEIGHTS, RoIStage
from lga_jax.models.rpn import RPN
from lga_jax.structs import Targets

BACKBONES = {
    "resnet": ResNet,
    "efficientnet_lite": EfficientNetLite,
    "convnext": ConvNeXt,
    "swin": Swin,
    "vit": ViT,
}
ATTENTIONS = {
    "lga": LGAHead,
    "cbam": CBAM,
    "non_local": NonLocal,
    "squeeze_excitation": SqueezeExcitation,
    "deformable": DeformablePooling,
    "none": NoAttention,
}
CASCADE = ("attentions", "positive_ious", "coder_scales", "loss_weights")  # each: one value per later stage
_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def build_backbone(model: Mapping[str, Any]) -> Backbone:
    """The backbone for the `model` section of a checked recipe."""
    section = dict(model["backbone"])
    family = BACKBONES[section.pop("name", "resnet")]  # 0.1 wrote no name
    return _build(family, "backbone", {"backbone": section}, dtype=_DTYPES[model["dtype"]])


def build_detector(
    config: ConfigDict, num_classes: int, backbone: Backbone | None = None, attention: RegionAttention | None = None
) -> Detector:
    """The detector for the `model` section of a checked recipe.

    `cascade` adds RoI stages. For stages of your own, use build_detector(...).clone(stages=...) with stages from
    `build_stage`. Raises UserError for the keys of another version, or if the number of anchor sizes is not the number
    of pyramid levels.

    Args:
        config: the `model` section.
        num_classes: the number of foreground classes.
        backbone, attention: flax modules to use instead of the recipe's; the recipe's settings for them are ignored.
            The attention replaces that of the first stage.
    """
    model = config.to_dict()
    dtype = _DTYPES[model["dtype"]]
    backbone = build_backbone(model) if backbone is None else backbone
    strides = pyramid_strides(backbone.strides)
    _check_anchors(model["anchors"]["sizes"], strides)
    return Detector(
        backbone=backbone,
        fpn=_build(FPN, "fpn", model, strides=backbone.strides, dtype=dtype),
        rpn=_build(
            RPN,
            "rpn",
            model,
            strides=strides,
            anchors=model["anchors"],
            sampling=model["anchor_sampling"],
            proposals=model["proposals"],
            dtype=dtype,
        ),
        stages=_stages(model, num_classes, backbone.strides, attention),
        mask_head=_mask_head(model, num_classes, backbone.strides),
        pixel_mean=model["pixel_mean"],
        pixel_std=model["pixel_std"],
        dtype=dtype,
    )


def _stages(
    model: Mapping[str, Any], num_classes: int, strides: tuple[int, ...], attention: RegionAttention | None
) -> tuple[RoIStage, ...]:
    """The first stage, and those of the recipe's `cascade` with their own attention, IoU, coder and loss weight."""
    later = model["cascade"]
    stages = [build_stage(model, num_classes, strides, attention)]
    for name, iou, scale, weight in zip(*(later[key] for key in CASCADE), strict=True):
        stage = build_stage(model | {"attention": name}, num_classes, strides)
        sampling = model["roi_sampling"] | {"positive_iou": iou}
        coder_weights = tuple(scale * value for value in CODER_WEIGHTS)
        stages.append(stage.clone(sampling=sampling, coder_weights=coder_weights, loss_weight=weight))
    return tuple(stages)


def build_stage(
    model: Mapping[str, Any],
    num_classes: int,
    strides: tuple[int, ...],
    attention: RegionAttention | None = None,
) -> RoIStage:
    """A RoI stage with new modules, for the `model` section of a recipe.

    `strides`: the strides of the backbone. `attention`: a module that replaces the recipe's.
    """
    return RoIStage(
        attention=build_attention(model, num_classes) if attention is None else attention,
        box_head=_build(BoxHead, "box_head", model, num_classes=num_classes, dtype=_DTYPES[model["dtype"]]),
        num_classes=num_classes,
        strides=strides,
        sampling=model["roi_sampling"],
        roi_align=model["roi_align"],
    )


def build_attention(model: Mapping[str, Any], num_classes: int) -> RegionAttention:
    """The attention for the `model` section of a checked recipe."""
    name = model["attention"]
    module = ATTENTIONS[name]
    if module is NoAttention:
        return NoAttention()
    classes = {"num_classes": num_classes} if module is LGAHead else {}
    return _build(module, name, model, **classes, dtype=_DTYPES[model["dtype"]])


def _mask_head(model: Mapping[str, Any], num_classes: int, strides: tuple[int, ...]) -> MaskHead | None:
    section = dict(model.get("mask_head", {}))  # checkpoints of earlier versions have none
    if not section.pop("enabled", False):
        return None
    align = {key: section.pop(key) for key in ("crop_size", "sampling_ratio")} | {
        "aligned": model["roi_align"]["aligned"]
    }
    sampling = model["roi_sampling"]
    return _build(
        MaskHead,
        "mask_head",
        {"mask_head": section},
        roi_align=align,
        strides=strides,
        num_slots=max(1, int(sampling["num_samples"] * sampling["positive_fraction"])),
        num_classes=num_classes,
        dtype=_DTYPES[model["dtype"]],
    )


def _build(module: type[nn.Module], section: str, config: Mapping[str, Any], **others: Any) -> nn.Module:
    """Builds a module from its section. The recipe may come from a checkpoint of another version with other keys."""
    fields = {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(module)}
    given = config[section].keys() | others.keys()
    if differing := sorted({name for name, needed in fields.items() if needed} - given | given - fields.keys()):
        raise UserError(
            f"model.{section}",
            expected="the keys of this version",
            found=f"the keys of another version (missing or unknown: {', '.join(differing)})",
            remedy="read the checkpoint with this other version, or train again",
        )
    return module(**config[section], **others)


def _check_anchors(sizes: Sequence[float], strides: Sequence[int]) -> None:
    if len(sizes) != len(strides):
        raise UserError(
            "model.anchors.sizes",
            expected=f"{len(strides)} sizes, one for each pyramid level (strides {listed(strides)})",
            found=str(len(sizes)),
            remedy="correct the recipe",
        )


def init_variables(detector: Detector, seed: int) -> dict[str, Any]:
    """Random initial 'params' and 'batch_stats' of the detector."""
    # Parameter shapes do not depend on the image size. The smallest image with a P6 compiles fastest.
    hw = (64, 64)
    targets = Targets(jnp.zeros((1, 1, 4)), jnp.zeros((1, 1), jnp.int32), jnp.zeros((1, 1), bool))
    if detector.mask_head is not None:
        targets = targets._replace(masks=jnp.zeros((1, 1, 1, 1), jnp.uint8), has_mask=jnp.zeros((1, 1), bool))
    # For hundreds of arrays, XLA's generator compiles in a third of the time of threefry.
    key = jax.random.key(seed, impl="rbg")
    variables = jax.jit(detector.init)(
        key, jnp.zeros((1, *hw, 3), jnp.uint8), jnp.asarray([hw], jnp.float32), targets, jax.random.split(key, 1)
    )
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
