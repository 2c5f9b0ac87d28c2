"""Proposals and final detections of one image as ONNX operators.

The number of results of NonMaxSuppression depends on the image. A ScatterElements makes it fixed again.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from lga_jax.exporting.onnx_writer.boxes import clip, decode, shortest_side
from lga_jax.exporting.onnx_writer.graph import Tensor, concat, where

_NEVER = -1e30  # score of what must not be chosen


class Regions(NamedTuple):
    """The input of a RoI stage."""

    boxes: Tensor  # [r 4]
    valid: Tensor  # [r]


class Found(NamedTuple):
    """The best (region, class) pairs."""

    boxes: Tensor  # [d 4]
    scores: Tensor  # [d]
    labels: Tensor  # [d]
    regions: Tensor  # [d], indices of the regions
    valid: Tensor  # [d]


def propose(
    objectness: Sequence[Tensor],
    deltas: Sequence[Tensor],
    anchors: Sequence[Float[np.ndarray, "_ 4"]],
    limit: Tensor,
    weights: Sequence[float],
    rule: Mapping[str, Any],
) -> Regions:
    """The proposals, as in lga_jax.models.rpn.select_proposals. `rule`: the recipe's `proposals`."""
    width = min(rule["pre_nms_test"], max(level.shape[0] for level in objectness))
    all_boxes, all_scores = [], []
    for logits, moves, places in zip(objectness, deltas, anchors, strict=True):
        scores, index = logits.top(min(width, logits.shape[0]))
        boxes = clip(decode(moves.gather(index), logits.graph.constant(places).gather(index), weights), limit)
        scores = where(shortest_side(boxes) > rule["min_size"], scores, _NEVER)
        all_boxes.append(_padded(boxes, width, 0.0).reshape(1, width, 4))
        all_scores.append(_padded(scores, width, _NEVER).reshape(1, 1, width))
    boxes, scores = concat(all_boxes, axis=0), concat(all_scores, axis=0)
    scores = _kept(boxes, scores, rule["nms_iou"], _NEVER / 2)
    scores, index = scores.top(min(rule["post_nms_test"], scores.shape[0]))
    valid = scores > _NEVER / 2
    chosen = boxes.reshape(-1, 4).gather(index)
    return Regions(where(valid.reshape(-1, 1), chosen, 0.0), valid)


def choose(
    scores: Tensor,
    deltas: Tensor,
    regions: Regions,
    limit: Tensor,
    weights: Sequence[float],
    rule: Mapping[str, Any],
) -> Found:
    """The final detections, as in lga_jax.models.postprocess.detect.

    scores [r k] are probabilities; deltas [r 4k], or [r 4] for all classes; `rule`: the recipe's `inference`.
    """
    graph, (count, num_classes) = scores.graph, scores.shape
    wanted = regions.valid.reshape(-1, 1) & (scores > rule["score_threshold"])
    scores, pairs = where(wanted, scores, -1.0).reshape(-1).top(min(rule["max_candidates"], count * num_classes))
    region = pairs // num_classes
    label = pairs - region * num_classes
    moves = deltas.reshape(-1, 4).gather(region if deltas.shape[1] == 4 else pairs)
    boxes = clip(decode(moves, regions.boxes.gather(region), weights), limit)
    scores = where(shortest_side(boxes) >= rule["min_size"], scores, -1.0)
    kept = _kept_in_class(boxes, scores, label, num_classes, rule["nms_iou"])
    scores, best = kept.top(min(rule["max_detections"], scores.shape[0]))
    valid = scores > graph.constant(0.0)
    return Found(boxes.gather(best), scores, label.gather(best), region.gather(best), valid)


def _kept_in_class(boxes: Tensor, scores: Tensor, labels: Tensor, num_classes: int, iou: float) -> Tensor:
    """The scores [n] of what NMS keeps within each class, else -1."""
    graph = boxes.graph
    own = labels.reshape(1, -1).equals(graph.constant(np.arange(num_classes)[:, None], np.int64))
    by_class = where(own, scores.reshape(1, -1), -1.0).reshape(1, num_classes, -1)
    index = _suppress(boxes.reshape(1, -1, 4), by_class, iou, 0.0)[1]
    return graph.constant(np.full(scores.shape, -1.0)).scattered(index, scores.gather(index))


def _kept(boxes: Tensor, scores: Tensor, iou: float, threshold: float) -> Tensor:
    """The scores [l * n] of what NMS keeps of boxes [l n 4] with scores [l 1 n] in each level, else _NEVER."""
    levels, index = _suppress(boxes, scores, iou, threshold)
    index = levels * boxes.shape[1] + index
    flat = scores.reshape(-1)
    nothing = flat.graph.constant(np.full(flat.shape, _NEVER))
    return nothing.scattered(index, flat.gather(index))


def _suppress(boxes: Tensor, scores: Tensor, iou: float, threshold: float) -> tuple[Tensor, Tensor]:
    """Batch and box index of everything that NMS keeps within each batch and class."""
    graph = boxes.graph
    most = graph.constant(boxes.shape[1], np.int64)
    inputs = [boxes, scores, most, graph.constant(iou), graph.constant(threshold)]
    selected = graph.node("NonMaxSuppression", inputs, [((None, 3), np.int64)])[0]
    batch, box = (graph.constant(column, np.int64) for column in (0, 2))
    return selected.gather(batch, axis=1), selected.gather(box, axis=1)


def _padded(x: Tensor, length: int, value: float) -> Tensor:
    missing = length - x.shape[0]
    return concat([x, x.graph.constant(np.full((missing, *x.shape[1:]), value))], axis=0) if missing else x
