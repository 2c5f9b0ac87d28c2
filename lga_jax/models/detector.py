"""LGA R-CNN: the whole detector on one page (figure 1 of the paper)."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from lga_jax.models.fpn import averaged_pyramid, pyramid_strides
from lga_jax.models.roi.box_head import sample_rois
from lga_jax.models.rpn import sample_anchors, select_proposals
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
        anchors = pyramid_anchors(
            images.shape[1:3], features_hw, pyramid_strides(self.backbone.strides), **self.anchors
        )

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

        crops = self._crop(pyramid[:-1], rois.boxes)
        attention = self.attention(crops)
        guide_logits = None
        if train and attention.gaussians is not None:
            seen = crops
            if self.attention.guide_level == "c2":
                seen = self._crop(averaged_pyramid(features[0], len(features)), rois.boxes)
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
        """`pyramid`: maps of the backbone's strides."""
        align = functools.partial(multilevel_roi_align, strides=self.backbone.strides, **self.roi_align)
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
