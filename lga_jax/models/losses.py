"""The training loss: the four terms of Faster R-CNN and the guide of LGA.

Every term is a sum over samples divided by the FIXED number of sample slots, not by how many were filled. So the loss
of a batch is the mean over its images, and splitting the batch over devices changes nothing.
"""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from lga_jax.errors import UserError
from lga_jax.models import rpn
from lga_jax.models.roi import box_head
from lga_jax.ops import boxes as box_ops
from lga_jax.structs import Outputs, RoITargets, Targets


def detection_losses(
    outputs: Outputs,
    targets: Targets,
    *,
    rpn_box_beta: float,
    roi_box_beta: float,
    guide_weight: float,
    guide_rois: str,
) -> dict[str, Float[Array, ""]]:
    """Each term by name, and their weighted sum 'total'. `guide` is there only with LGA.

    The betas are smooth-L1 transitions in units of the deltas; 0 is plain L1. `guide_rois`: "all" or "foreground".
    """
    losses = rpn_losses(outputs, targets, rpn_box_beta) | roi_losses(outputs, roi_box_beta)
    total = sum(losses.values())
    if outputs.guide_logits is not None:
        losses["guide"] = guide_loss(outputs.guide_logits, outputs.roi_targets, guide_rois)
        total += guide_weight * losses["guide"]
    return losses | {"total": total}


def rpn_losses(outputs: Outputs, targets: Targets, beta: float) -> dict[str, Float[Array, ""]]:
    """Binary cross-entropy on the sampled anchors, smooth L1 on the deltas of the positive ones."""
    samples = outputs.anchor_samples
    objectness = jnp.take_along_axis(outputs.objectness, samples.index, axis=1)
    deltas = jnp.take_along_axis(outputs.anchor_deltas, samples.index[..., None], axis=1)
    matched = jnp.take_along_axis(targets.boxes, samples.matched[..., None], axis=1)
    wanted = box_ops.encode(matched, outputs.anchors[samples.index], rpn.CODER_WEIGHTS)

    entropy = optax.sigmoid_binary_cross_entropy(objectness, samples.positive)
    distance = box_ops.smooth_l1(deltas - wanted, beta).sum(axis=-1)
    return {
        "rpn_objectness": jnp.mean(jnp.where(samples.valid, entropy, 0.0)),
        "rpn_box": jnp.mean(jnp.where(samples.positive, distance, 0.0)),
    }


def roi_losses(outputs: Outputs, beta: float) -> dict[str, Float[Array, ""]]:
    """Cross-entropy on the sampled RoIs, smooth L1 on the deltas that the true class of a foreground RoI predicts."""
    truth = outputs.roi_targets
    num_classes = outputs.box_deltas.shape[-2]
    foreground = truth.valid & (truth.labels < num_classes)
    own_class = jnp.minimum(truth.labels, num_classes - 1)[..., None, None]
    deltas = jnp.take_along_axis(outputs.box_deltas, own_class, axis=-2)[..., 0, :]
    wanted = box_ops.encode(truth.boxes, outputs.rois.boxes, box_head.CODER_WEIGHTS)

    entropy = optax.softmax_cross_entropy_with_integer_labels(outputs.class_logits, truth.labels)
    distance = box_ops.smooth_l1(deltas - wanted, beta).sum(axis=-1)
    return {
        "roi_class": jnp.mean(jnp.where(truth.valid, entropy, 0.0)),
        "roi_box": jnp.mean(jnp.where(foreground, distance, 0.0)),
    }


def guide_loss(guide_logits: Float[Array, "b r _ l"], truth: RoITargets, rois: str) -> Float[Array, ""]:
    """Cross-entropy of what the guide makes of the masks, mean over its answers and RoIs (paper section III-B-2).

    `rois`: "all", or "foreground" where background has no part that tells it; the divisor stays the number of slots.
    """
    if rois not in ("all", "foreground"):
        raise UserError(
            "losses.guide_rois",
            expected="'all' or 'foreground'",
            found=f"{rois!r}",
            remedy="correct the config",
        )
    background = guide_logits.shape[-1] - 1
    guided = truth.valid if rois == "all" else truth.valid & (truth.labels < background)
    labels = jnp.broadcast_to(truth.labels[..., None], guide_logits.shape[:-1])
    entropy = optax.softmax_cross_entropy_with_integer_labels(guide_logits, labels)
    return jnp.mean(jnp.where(guided[..., None], entropy, 0.0))
