"""Computes the final detections from the outputs of the detector."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lga_jax.ops import boxes as box_ops
from lga_jax.ops.nms import nms
from lga_jax.structs import Detections, Gaussians, Outputs, RoIs


def detect(
    outputs: Outputs,
    image_hw: Float[Array, "b 2"],
    *,
    score_threshold: float,
    nms_iou: float,
    min_size: float,
    max_candidates: int,
    max_detections: int,
) -> Detections:
    """The last stage's detections for every image, highest score first; unused slots are zero and invalid.

    The `max_candidates` best (RoI, class) pairs above score_threshold enter NMS within their class. Boxes with a side
    below `min_size` pixels are dropped before NMS.
    """
    last = outputs.stages[-1]

    def detect_image(rois: RoIs, logits: Array, deltas: Array, gaussians: Gaussians | None, hw: Array) -> Detections:
        num_classes = deltas.shape[1]
        scores = jax.nn.softmax(logits)[:, :num_classes]
        wanted = rois.valid[:, None] & (scores > score_threshold)
        scores = jnp.where(wanted, scores, -jnp.inf).reshape(-1)
        scores, pair = jax.lax.top_k(scores, min(max_candidates, scores.shape[0]))
        roi, label = pair // num_classes, pair % num_classes
        boxes = box_ops.decode(deltas[roi, label], rois.boxes[roi], last.coder_weights)
        boxes = box_ops.clip(boxes, hw)
        large = jnp.all(boxes[:, 2:] - boxes[:, :2] >= min_size, axis=1)
        scores = jnp.where(large, scores, -jnp.inf)

        keep = nms(boxes, scores, nms_iou, label)
        scores, best = jax.lax.top_k(jnp.where(keep, scores, -jnp.inf), min(max_detections, scores.shape[0]))
        valid = scores > -jnp.inf
        roi = roi[best]
        centres, sigmas = _masks_in_image(rois.boxes[roi], jax.tree.map(lambda leaf: leaf[roi], gaussians))
        found = Detections(
            boxes=boxes[best],
            scores=scores,
            labels=label[best],
            valid=valid,
            rois=rois.boxes[roi],
            mask_centres=centres,
            mask_sigmas=sigmas,
        )
        return jax.tree.map(
            lambda leaf: jnp.where(valid.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, jnp.zeros_like(leaf)), found
        )

    return jax.vmap(detect_image)(last.rois, last.class_logits, last.box_deltas, last.gaussians, image_hw)


def _masks_in_image(rois: Float[Array, "d 4"], gaussians: Gaussians | None) -> tuple[Array, Array]:
    """Centres and sigmas (x, y) in pixels of the padded input; [d 0 2] without Gaussian masks."""
    if gaussians is None:
        empty = jnp.zeros((rois.shape[0], 0, 2))
        return empty, empty
    cell = (rois[:, 2:] - rois[:, :2])[:, None, :] / gaussians.masks.shape[-1]
    return rois[:, None, :2] + gaussians.centres * cell, gaussians.sigmas * cell
