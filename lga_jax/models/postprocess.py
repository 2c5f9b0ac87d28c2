"""Computes the final detections from the outputs of the detector."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lga_jax.models.roi.deltas import deltas_of
from lga_jax.ops import boxes as box_ops
from lga_jax.ops.nms import nms
from lga_jax.ops.topk import top_k
from lga_jax.structs import Detections, Gaussians, Outputs, StageOutputs


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
    """The detections of every image, highest score first; unused slots are zero and invalid.

    In a cascade, boxes come from the last stage and scores are the mean over all stages. Masks come from the last stage
    that has masks.
    The `max_candidates` best (RoI, class) pairs above score_threshold enter NMS within their class. Boxes with a side
    below `min_size` pixels are dropped before NMS.
    """
    last = outputs.stages[-1]
    masked = next((stage for stage in reversed(outputs.stages) if stage.gaussians is not None), last)

    def detect_image(last: StageOutputs, masked: StageOutputs, scores: Float[Array, "r k"], hw: Array) -> Detections:
        rois, num_classes = last.rois, scores.shape[1]
        wanted = rois.valid[:, None] & (scores > score_threshold)
        scores = jnp.where(wanted, scores, -jnp.inf).reshape(-1)
        scores, pair = top_k(scores, min(max_candidates, scores.shape[0]))
        roi, label = pair // num_classes, pair % num_classes
        deltas = deltas_of(last.box_deltas[roi], label)
        boxes = box_ops.decode(deltas, rois.boxes[roi], coder_weights)
        boxes = box_ops.clip(boxes, hw)
        large = jnp.all(boxes[:, 2:] - boxes[:, :2] >= min_size, axis=1)
        scores = jnp.where(large, scores, -jnp.inf)

        keep = nms(boxes, scores, nms_iou, label)
        scores, best = jax.lax.top_k(jnp.where(keep, scores, -jnp.inf), min(max_detections, scores.shape[0]))
        valid = scores > -jnp.inf
        roi = roi[best]
        attended = masked.rois.boxes[roi]
        centres, sigmas = _masks_in_image(attended, jax.tree.map(lambda leaf: leaf[roi], masked.gaussians))
        found = Detections(
            boxes=boxes[best],
            scores=scores,
            labels=label[best],
            valid=valid,
            rois=attended,
            mask_centres=centres,
            mask_sigmas=sigmas,
            masks=jnp.zeros((best.shape[0], 0, 0)),
        )
        return jax.tree.map(
            lambda leaf: jnp.where(valid.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, jnp.zeros_like(leaf)), found
        )

    coder_weights = last.coder_weights
    last, masked = (stage._replace(targets=None, guide_logits=None, coder_weights=None) for stage in (last, masked))
    return jax.vmap(detect_image)(last, masked, mean_scores(outputs), image_hw)


def mean_scores(outputs: Outputs) -> Float[Array, "b r k"]:
    """The probabilities of the foreground classes, mean over all stages (Cascade R-CNN)."""
    scores = [jax.nn.softmax(stage.class_logits)[..., :-1] for stage in outputs.stages]
    return sum(scores) / len(scores)


def _masks_in_image(rois: Float[Array, "d 4"], gaussians: Gaussians | None) -> tuple[Array, Array]:
    """Centres and sigmas (x, y) in pixels of the padded input; [d 0 2] without Gaussian masks."""
    if gaussians is None:
        empty = jnp.zeros((rois.shape[0], 0, 2))
        return empty, empty
    cell = (rois[:, 2:] - rois[:, :2])[:, None, :] / gaussians.masks.shape[-1]
    return rois[:, None, :2] + gaussians.centres * cell, gaussians.sigmas * cell
