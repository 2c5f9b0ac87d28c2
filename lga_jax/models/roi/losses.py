"""The losses of a RoI head: classes and boxes of the sampled RoIs.

Every term is divided by the number of sample slots, so it does not depend on the number of devices.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from lga_jax.models.roi.deltas import deltas_of
from lga_jax.ops import boxes as box_ops
from lga_jax.ops.iou_losses import iou_loss
from lga_jax.structs import RoITargets, StageOutputs


def roi_losses(outputs: StageOutputs, rule: Mapping[str, Any]) -> dict[str, Float[Array, ""]]:
    """The class loss of the sampled RoIs, and the box loss of the true class for foreground RoIs.

    `rule`: the recipe's `losses`, with `class_weights` for all classes or ().
    """
    truth = outputs.targets
    background = outputs.class_logits.shape[-1] - 1
    foreground = truth.valid & (truth.labels < background)
    classes = class_loss(
        counted_logits(outputs.class_logits, truth) if rule["federated"] else outputs.class_logits,
        truth.labels,
        kind=rule["roi_class"],
        focal_gamma=rule["focal_gamma"],
        label_smoothing=rule["label_smoothing"],
        class_weights=rule["class_weights"],
    )
    boxes = box_loss(outputs, kind=rule["roi_box"], beta=rule["roi_box_beta"])
    return {
        "roi_class": jnp.mean(jnp.where(truth.valid, classes, 0.0)),
        "roi_box": jnp.mean(jnp.where(foreground, boxes, 0.0)),
    }


def counted_logits(logits: Float[Array, "b r l"], truth: RoITargets) -> Float[Array, "b r l"]:
    """The logits, with minus infinity for background RoIs and classes that are not verified in their image.

    Such a class has no part in the softmax of the RoI and gets no gradient from it: the RoI may show an object of this
    class without a box. Detectron2's federated loss leaves classes out of the sigmoids of all RoIs by chance; this rule
    follows the lists, as LVIS's evaluation does. RoIs of objects compare all classes, because the class of a softmax is
    the best of all, and their own class is known.
    """
    if truth.verified is None:
        return logits
    background = logits.shape[-1] - 1
    verified = jnp.pad(truth.verified, ((0, 0), (0, 1)), constant_values=True)  # background always counts
    return jnp.where(verified[:, None] | (truth.labels < background)[..., None], logits, -jnp.inf)


def class_loss(
    logits: Float[Array, "*n l"],
    labels: Int[Array, "*n"],
    *,
    kind: str,
    focal_gamma: float,
    label_smoothing: float,
    class_weights: tuple[float, ...],
) -> Float[Array, "*n"]:
    """The class loss of each RoI.

    Args:
        logits: one per class, background last; minus infinity for a class that does not count.
        labels: the true class.
        kind: "cross_entropy", or "focal": times (1 - p)^focal_gamma with the probability p of the true class (Lin et
            al. 2017, for a softmax).
        focal_gamma: only for "focal".
        label_smoothing: the share of the wanted probability that all classes have in equal parts (Szegedy et al. 2016).
        class_weights: factors of the losses of foreground RoIs by their true class; (): 1. Background has 1.
    """
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    probability = jnp.exp(-loss)
    if label_smoothing:
        spread = -jax.nn.log_softmax(logits).mean(axis=-1, where=jnp.isfinite(logits))
        loss = (1.0 - label_smoothing) * loss + label_smoothing * spread
    if kind == "focal":
        # The base is kept above 0, where a power below 1 has no finite gradient.
        loss = jnp.maximum(1.0 - probability, 1e-6) ** focal_gamma * loss
    return loss * jnp.asarray((*class_weights, 1.0))[labels] if class_weights else loss


def box_loss(outputs: StageOutputs, *, kind: str, beta: float | Float[Array, ""]) -> Float[Array, "b r"]:
    """The box loss of each RoI with the deltas of its true class; not defined for background.

    Args:
        outputs: the outputs of the stage.
        kind: "l1" on the deltas, or "giou", "diou", "ciou" on the boxes.
        beta: only for "l1": the transition of smooth L1; 0 is plain L1.
    """
    truth, rois = outputs.targets, outputs.rois.boxes
    deltas = deltas_of(outputs.box_deltas, truth.labels)
    if kind == "l1":
        wanted = box_ops.encode(truth.boxes, rois, outputs.coder_weights)
        return box_ops.smooth_l1(deltas - wanted, beta).sum(axis=-1)
    return iou_loss(box_ops.decode(deltas, rois, outputs.coder_weights), truth.boxes, kind)


def guide_loss(guide_logits: Float[Array, "b r _ l"], truth: RoITargets, rois: str) -> Float[Array, ""]:
    """Cross-entropy of the guide logits, mean over masks and RoIs (paper section III-B-2).

    `rois`: "all" or "foreground", because background has no part that identifies it. The divisor is always the number
    of slots.
    """
    background = guide_logits.shape[-1] - 1
    guided = truth.valid if rois == "all" else truth.valid & (truth.labels < background)
    labels = jnp.broadcast_to(truth.labels[..., None], guide_logits.shape[:-1])
    entropy = optax.softmax_cross_entropy_with_integer_labels(guide_logits, labels)
    return jnp.mean(jnp.where(guided[..., None], entropy, 0.0))
