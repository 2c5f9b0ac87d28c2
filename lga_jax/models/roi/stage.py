"""A RoI stage: samples RoIs, crops features, applies attention, predicts, and computes losses and refined RoIs.

Faster R-CNN has one stage, a cascade (Cai and Vasconcelos 2018) has several. Each stage has its own modules, sampling
rule and coder weights.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from lga_jax.models.roi.crops import Levels, RoICrops
from lga_jax.models.roi.deltas import deltas_of
from lga_jax.models.roi.losses import counted_logits, guide_loss, roi_losses
from lga_jax.ops import boxes as box_ops
from lga_jax.ops.matching import match
from lga_jax.ops.sampling import sample_balanced
from lga_jax.structs import RoIs, RoITargets, StageOutputs, Targets

CODER_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


class RoIStage(nn.Module):
    """Predicts classes and box deltas for RoIs."""

    attention: nn.Module  # a RegionAttention
    box_head: nn.Module  # (crops, train) -> class logits and box deltas
    num_classes: int
    strides: tuple[int, ...]  # strides of the feature maps
    sampling: Mapping[str, Any]  # arguments of sample_rois
    roi_align: Mapping[str, Any]  # crop_size, sampling_ratio and aligned of ops.roi_align
    coder_weights: tuple[float, float, float, float] = CODER_WEIGHTS
    loss_weight: float = 1.0  # factor of all losses of this stage in the sum

    def __call__(
        self,
        levels: Levels,
        rois: RoIs,
        targets: Targets | None,
        keys: Key[Array, "b"] | None,
        positive_iou: Float[Array, ""] | None = None,
    ) -> StageOutputs:
        """Predictions for `rois`; with `targets`, for a sample of RoIs and true boxes, drawn with one key per image.

        positive_iou: replaces that of the sampling.
        """
        train = targets is not None
        roi_targets = None
        if train:
            changed = {} if positive_iou is None else {"positive_iou": positive_iou}
            sample = functools.partial(sample_rois, num_classes=self.num_classes, **{**self.sampling, **changed})
            rois, roi_targets = jax.vmap(sample)(keys, rois, targets)
        attention = self.attention(RoICrops(levels, rois.boxes, self.strides, self.roi_align), train)
        class_logits, box_deltas = self.box_head(attention.fused, train)
        return StageOutputs(
            rois=rois,
            targets=roi_targets,
            gaussians=attention.gaussians,
            guide_logits=attention.guide_logits,
            class_logits=class_logits,
            box_deltas=box_deltas,
            coder_weights=jnp.asarray(self.coder_weights),
        )

    def losses(self, outputs: StageOutputs, rule: Mapping[str, Any]) -> dict[str, Float[Array, ""]]:
        """The unweighted terms 'roi_class', 'roi_box' and, if the attention has a guide, 'guide'.

        `rule`: the recipe's `losses`.
        """
        terms = roi_losses(outputs, rule)
        if outputs.guide_logits is not None:
            counted = jax.vmap(counted_logits, in_axes=(2, None), out_axes=2) if rule["federated"] else lambda x, _: x
            logits = counted(outputs.guide_logits, outputs.targets)
            terms["guide"] = guide_loss(logits, outputs.targets, rule["guide_rois"])
        return terms

    def refined(self, outputs: StageOutputs, image_hw: Float[Array, "b 2"]) -> RoIs:
        """The RoIs for the next stage: refined by the deltas of the best foreground class and clipped to the image.

        No gradient flows back through them. Boxes with zero area become invalid. The scores do not change.
        """
        outputs = jax.lax.stop_gradient(outputs)
        best = jnp.argmax(outputs.class_logits[..., : self.num_classes], axis=-1)
        deltas = deltas_of(outputs.box_deltas, best)
        boxes = box_ops.decode(deltas, outputs.rois.boxes, outputs.coder_weights)
        boxes = jax.vmap(box_ops.clip)(boxes, image_hw)
        valid = outputs.rois.valid & (box_ops.area(boxes) > 0.0)
        return RoIs(jnp.where(valid[..., None], boxes, 0.0), outputs.rois.scores, valid)


def sample_rois(
    key: Key[Array, ""],
    proposals: RoIs,
    targets: Targets,
    *,
    num_classes: int,
    num_samples: int,
    positive_fraction: float,
    positive_iou: float | Float[Array, ""],
) -> tuple[RoIs, RoITargets]:
    """Draws the RoIs of one image for training, with their targets.

    Ground-truth boxes are added to the proposals, so every object has a positive RoI from the first step.
    """
    boxes = jnp.concatenate([proposals.boxes, targets.boxes])
    scores = jnp.concatenate([proposals.scores, jnp.zeros(targets.boxes.shape[0])])
    valid = jnp.concatenate([proposals.valid, targets.valid])
    found = match(
        boxes,
        targets.boxes,
        targets.valid,
        positive_iou=positive_iou,
        negative_iou=positive_iou,
        low_quality=False,
    )
    samples = sample_balanced(
        key,
        found.positive & valid,
        found.negative & valid,
        found.matched,
        num_samples=num_samples,
        positive_fraction=positive_fraction,
    )
    rois = RoIs(
        boxes=jnp.where(samples.valid[:, None], boxes[samples.index], 0.0),
        scores=jnp.where(samples.valid, scores[samples.index], 0.0),
        valid=samples.valid,
    )
    labels = jnp.where(samples.positive, targets.labels[samples.matched], num_classes)
    matched = samples.matched
    ious = jnp.where(proposals.valid, found.iou[: proposals.valid.shape[0]], -1.0)
    return rois, RoITargets(labels, targets.boxes[matched], matched, samples.valid, targets.verified, ious)
