"""Assigns ground truth to anchors or proposals by overlap (Faster R-CNN section 3.1.2)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lga_jax.ops.boxes import pairwise_iou

# Ground truth is processed in chunks: memory is chunk x anchors instead of ground truth x anchors
# (268,000 anchors x 500 boxes would be 0.5 GiB per image).
CHUNK = 16


class Match(NamedTuple):
    """For each box: the ground-truth slot with the largest IoU, this IoU, and the assignment."""

    matched: Int[Array, "n"]
    iou: Float[Array, "n"]
    positive: Bool[Array, "n"]
    negative: Bool[Array, "n"]  # boxes that are neither positive nor negative are ignored


def match(
    boxes: Float[Array, "n 4"],
    truth: Float[Array, "g 4"],
    truth_valid: Bool[Array, "g"],
    *,
    positive_iou: float,
    negative_iou: float,
    low_quality: bool,
) -> Match:
    """Positive at IoU >= positive_iou, negative below negative_iou.

    With `low_quality`, the boxes with the largest IoU of each ground-truth box (all of them on a tie) are positive
    too, if the IoU is above zero. Each keeps the slot that it overlaps most, as in Detectron2. Without ground truth
    all boxes are negative.
    """
    num_truth = truth.shape[0]
    padding = -num_truth % CHUNK
    truth = jnp.pad(truth, ((0, padding), (0, 0))).reshape(-1, CHUNK, 4)
    truth_valid = jnp.pad(truth_valid, (0, padding)).reshape(-1, CHUNK)

    def visit(carry: tuple[Array, Array, Array, Array], chunk: tuple[Array, Array]) -> tuple[tuple, None]:
        best_iou, matched, is_best, offset = carry
        chunk_boxes, chunk_valid = chunk
        iou = jnp.where(chunk_valid[:, None], pairwise_iou(chunk_boxes, boxes), -1.0)
        # With the barrier, the row maximum and its comparison use the same rounded numbers.
        iou = jax.lax.optimization_barrier(iou)
        row_best = iou.max(axis=1, keepdims=True)
        is_best |= jnp.any((iou == row_best) & (row_best > 0.0), axis=0)
        chunk_best = iou.max(axis=0)
        better = chunk_best > best_iou
        matched = jnp.where(better, offset + jnp.argmax(iou, axis=0), matched)
        return (jnp.maximum(best_iou, chunk_best), matched, is_best, offset + CHUNK), None

    num_boxes = boxes.shape[0]
    start = (
        jnp.full(num_boxes, -1.0),
        jnp.zeros(num_boxes, jnp.int32),
        jnp.zeros(num_boxes, bool),
        jnp.int32(0),
    )
    (best_iou, matched, is_best, _), _ = jax.lax.scan(visit, start, (truth, truth_valid))
    best_iou = jnp.maximum(best_iou, 0.0)
    positive = best_iou >= positive_iou
    if low_quality:
        positive |= is_best
    return Match(matched, best_iou, positive, ~positive & (best_iou < negative_iou))
