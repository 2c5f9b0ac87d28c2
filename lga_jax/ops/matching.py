"""Assigns ground truth to anchors or proposals by overlap (Faster R-CNN section 3.1.2)."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lga_jax.ops.boxes import area, pairwise_iou

# On CPUs ground truth is processed in chunks: memory is chunk x anchors instead of ground truth x anchors
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
    positive_iou: float | Float[Array, ""],
    negative_iou: float | Float[Array, ""],
    low_quality: bool,
) -> Match:
    """Positive at IoU >= positive_iou, negative below negative_iou.

    With `low_quality`, the boxes with the largest IoU of each ground-truth box (all of them on a tie) are positive
    too, if the IoU is above zero. Each keeps the slot that it overlaps most, as in Detectron2. Without ground truth
    all boxes are negative.
    """
    recomputed = partial(_recomputed, low_quality=low_quality)
    matched, best_iou, is_best = jax.lax.platform_dependent(
        boxes, truth, truth_valid, cpu=_by_chunks, default=recomputed
    )
    best_iou = jnp.maximum(best_iou, 0.0)
    positive = best_iou >= positive_iou
    if low_quality:
        positive |= is_best
    return Match(matched, best_iou, positive, ~positive & (best_iou < negative_iou))


# Slot with the largest IoU, this IoU (-1 without valid slots), and whether the box is the best of a slot.
_Found = tuple[Int[Array, "n"], Float[Array, "n"], Bool[Array, "n"]]


def _by_chunks(boxes: Float[Array, "n 4"], truth: Float[Array, "g 4"], truth_valid: Bool[Array, "g"]) -> _Found:
    """Stores the IoUs of a chunk and reads them three times."""
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
    return matched, best_iou, is_best


def _recomputed(
    boxes: Float[Array, "n 4"], truth: Float[Array, "g 4"], truth_valid: Bool[Array, "g"], low_quality: bool
) -> _Found:
    """Stores no IoU: each reduction computes them in registers, which costs a GPU or TPU less than reading them."""
    is_best = jnp.zeros(boxes.shape[0], bool)
    if truth.shape[0] == 0:
        return jnp.zeros(boxes.shape[0], jnp.int32), jnp.full(boxes.shape[0], -1.0), is_best
    # Without the barriers XLA computes the IoUs once and stores them for all reductions.
    inputs = jax.lax.optimization_barrier(_IoUs(boxes, truth, truth_valid, area(boxes), area(truth), jnp.int32(0)))
    matched = jnp.argmax(inputs.values(), axis=0).astype(jnp.int32)
    inputs = jax.lax.optimization_barrier(inputs)
    best_iou = inputs.values().max(axis=0)
    if low_quality:
        inputs = jax.lax.optimization_barrier(inputs)
        row_best = inputs.values().max(axis=1)
        inputs, row_best = jax.lax.optimization_barrier((inputs, row_best))
        is_best = jnp.any((inputs.values() == row_best[:, None]) & (row_best[:, None] > 0.0), axis=0)
    return matched, best_iou, is_best


class _IoUs(NamedTuple):
    """What every IoU is computed from, with the same rounding in every program that computes it."""

    boxes: Float[Array, "n 4"]
    truth: Float[Array, "g 4"]
    truth_valid: Bool[Array, "g"]
    box_area: Float[Array, "n"]
    truth_area: Float[Array, "g"]
    zero: Int[Array, ""]  # 0, which the compiler must not know

    def values(self) -> Float[Array, "g n"]:
        """IoU of every slot and box, -1 for invalid slots, from one column of coordinates at a time."""
        x1, y1, x2, y2 = (self.boxes[:, i] for i in range(4))
        left, top, right, bottom = (self.truth[:, i, None] for i in range(4))
        width = jnp.maximum(jnp.minimum(right, x2) - jnp.maximum(left, x1), 0.0)
        height = jnp.maximum(jnp.minimum(bottom, y2) - jnp.maximum(top, y1), 0.0)
        # As an integer, the product cannot become a part of the subtraction, which would round only once.
        bits = jax.lax.bitcast_convert_type(width * height, jnp.int32) | self.zero
        intersection = jax.lax.bitcast_convert_type(bits, jnp.float32)
        union = self.truth_area[:, None] + self.box_area - intersection
        iou = jnp.where(union > 0.0, intersection / jnp.where(union > 0.0, union, 1.0), 0.0)
        return jnp.where(self.truth_valid[:, None], iou, -1.0)
