"""LGA R-CNN: the whole detector on one page (figure 1 of the paper), and how it is built from a configuration."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8
from ml_collections import ConfigDict

from lga_jax.errors import UserError
from lga_jax.models import fpn as fpn_module
from lga_jax.models.attention import CBAM, NoAttention, NonLocal
from lga_jax.models.box_head import BoxHead, sample_rois
from lga_jax.models.fpn import FPN
from lga_jax.models.layers import NORMS
from lga_jax.models.lga_head import LGAHead
from lga_jax.models.resnet import ARCHITECTURES, ResNet
from lga_jax.models.rpn import RPNHead, sample_anchors, select_proposals
from lga_jax.ops.anchors import pyramid_anchors
from lga_jax.ops.roi_align import multilevel_roi_align
from lga_jax.structs import Outputs, Targets


class Detector(nn.Module):
    """Faster R-CNN with FPN whose RoI features pass an attention block. With targets it samples anchors and RoIs for
    the loss and computes the guide; without, every proposal passes the second stage."""

    backbone: nn.Module
    fpn: nn.Module
    rpn: nn.Module
    attention: nn.Module
    box_head: nn.Module
    num_classes: int
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    anchors: Mapping[str, Any]
    anchor_sampling: Mapping[str, Any]
    proposals: Mapping[str, Any]
    roi_sampling: Mapping[str, Any]
    roi_align: Mapping[str, Any]
    dtype: Any

    def __call__(
        self,
        images: UInt8[Array, "b h w 3"],
        image_hw: Float[Array, "b 2"],
        targets: Targets | None = None,
        keys: Key[Array, "b"] | None = None,
    ) -> Outputs:
        """Sampling is random in `keys`, one per image, so that an image's samples do not depend on its neighbours."""
        train = targets is not None
        features = self.backbone(self._normalise(images, image_hw), train)
        pyramid = self.fpn(features, train)
        objectness, anchor_deltas = self.rpn(pyramid)
        features_hw = [level.shape[1:3] for level in pyramid]
        anchors = pyramid_anchors(images.shape[1:3], features_hw, fpn_module.STRIDES, **self.anchors)

        rois = self._select_proposals(objectness, anchor_deltas, anchors, image_hw, train)
        all_anchors = jnp.concatenate(anchors)
        anchor_samples = roi_targets = None
        if train:
            anchor_keys, roi_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
            anchor_samples = jax.vmap(
                lambda key, truth: sample_anchors(key, all_anchors, truth, **self.anchor_sampling)
            )(anchor_keys, targets)
            rois, roi_targets = jax.vmap(
                lambda key, proposals, truth: sample_rois(key, proposals, truth, self.num_classes, **self.roi_sampling)
            )(roi_keys, rois, targets)

        crops = self._crop(pyramid[:4], rois.boxes)
        attention = self.attention(crops)
        guide_logits = None
        if train and attention.gaussians is not None:
            seen = crops
            if self.attention.guide_level == "c2":
                seen = self._crop(fpn_module.averaged_pyramid(features[0]), rois.boxes)
            guide_logits = self.attention.guide(seen, attention.gaussians.masks)
        class_logits, box_deltas = self.box_head(attention.fused, train)
        return Outputs(
            anchors=all_anchors,
            objectness=jnp.concatenate(objectness, axis=1),
            anchor_deltas=jnp.concatenate(anchor_deltas, axis=1),
            anchor_samples=anchor_samples,
            rois=rois,
            roi_targets=roi_targets,
            gaussians=attention.gaussians,
            guide_logits=guide_logits,
            class_logits=class_logits,
            box_deltas=box_deltas,
        )

    def _normalise(self, images: UInt8[Array, "b h w 3"], image_hw: Float[Array, "b 2"]) -> Float[Array, "b h w 3"]:
        """Zero mean and unit variance inside the image, zero in the padding (as if padded after normalising)."""
        x = (images.astype(jnp.float32) - np.asarray(self.pixel_mean)) / np.asarray(self.pixel_std)
        rows = jnp.arange(images.shape[1])[None, :, None] < image_hw[:, 0, None, None]
        columns = jnp.arange(images.shape[2])[None, None, :] < image_hw[:, 1, None, None]
        return jnp.where((rows & columns)[..., None], x, 0.0).astype(self.dtype)

    def _crop(self, pyramid: list[Float[Array, "b _ _ c"]], boxes: Float[Array, "b r 4"]) -> Float[Array, "b r s s c"]:
        """Levels P2 to P5, or others of their strides."""
        align = functools.partial(multilevel_roi_align, strides=fpn_module.STRIDES[:4], **self.roi_align)
        return jax.vmap(align)(pyramid, boxes)

    def _select_proposals(self, objectness: list, deltas: list, anchors: list, image_hw: Array, train: bool) -> Any:
        """Proposals are constants for the second stage: no gradient returns through them into the RPN."""
        mode = "train" if train else "test"
        rule = self.proposals
        select = jax.vmap(
            lambda scores, moves, hw: select_proposals(
                scores,
                moves,
                anchors,
                hw,
                pre_nms=rule[f"pre_nms_{mode}"],
                post_nms=rule[f"post_nms_{mode}"],
                nms_iou=rule["nms_iou"],
                min_size=rule["min_size"],
            )
        )
        return select(*jax.lax.stop_gradient((objectness, deltas)), image_hw)


def build_detector(config: ConfigDict, num_classes: int) -> Detector:
    """The detector of `config.model` for `num_classes` foreground classes.

    Raises UserError for a choice that does not exist.
    """
    config = config.to_dict()
    _check_values(config)
    dtypes = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
    dtype = _choose("model.dtype", config["dtype"], dtypes)
    _choose("model.backbone.depth", config["backbone"]["depth"], ARCHITECTURES)
    attention = {
        "lga": lambda: _build(LGAHead, "lga", config, num_classes=num_classes, dtype=dtype),
        "cbam": lambda: _build(CBAM, "cbam", config, dtype=dtype),
        "non_local": lambda: _build(NonLocal, "non_local", config, dtype=dtype),
        "none": NoAttention,
    }
    return Detector(
        backbone=_build(ResNet, "backbone", config, dtype=dtype),
        fpn=_build(FPN, "fpn", config, dtype=dtype),
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
            f"model.{section}: expected other keys (missing or unknown: {', '.join(odd)}), as a checkpoint of another "
            "version has them; read it by that version, or train anew"
        )
    return module(**config[section], **others)


def _check_values(config: Mapping[str, Any]) -> None:
    """Values that would fail deep inside the network, or not fail and train nothing."""
    backbone = config["backbone"]
    widths = [backbone["width"] * 2**stage for stage in range(4)]
    rules = [
        ("backbone.width", "8 or a multiple of 16", min(widths) > 0 and all(w % min(w, 16) == 0 for w in widths)),
        ("backbone.frozen_stages", "0 to 5", 0 <= backbone["frozen_stages"] <= 5),
        (
            "anchors.sizes",
            f"{len(fpn_module.STRIDES)} sizes",
            len(config["anchors"]["sizes"]) == len(fpn_module.STRIDES),
        ),
        ("anchors.aspect_ratios", "at least one", len(config["anchors"]["aspect_ratios"]) > 0),
        ("anchor_sampling.num_samples", "at least 1", config["anchor_sampling"]["num_samples"] > 0),
        ("roi_sampling.num_samples", "at least 1", config["roi_sampling"]["num_samples"] > 0),
        ("roi_align.crop_size", "at least 1", config["roi_align"]["crop_size"] > 0),
        ("roi_align.sampling_ratio", "0 (adaptive) or more", config["roi_align"]["sampling_ratio"] >= 0),
        ("backbone.norm", "one of " + ", ".join(NORMS), backbone["norm"] in NORMS),
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
    for key, expected, holds in rules:
        if not holds:
            part, name = key.split(".")
            raise UserError(f"model.{key}: expected {expected}, found {config[part][name]}; correct the config")


def _choose(name: str, choice: Any, choices: Mapping[Any, Any]) -> Any:
    if choice not in choices:
        raise UserError(f"{name}: expected one of {', '.join(map(str, choices))}; found {choice!r}; correct the config")
    return choices[choice]
