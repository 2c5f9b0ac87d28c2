"""Proposals, crops and final detections of one image as ONNX operators.

The operators with a number of results that depends on the image, NonMaxSuppression and NonZero, are followed by a
ScatterElements, or by a Concat of all parts, that makes it fixed again.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from lga_jax.exporting.onnx_writer.graph import Tensor, concat, where
from lga_jax.ops.boxes import MAX_LOG_RATIO
from lga_jax.ops.roi_align import CANONICAL_LEVEL, CANONICAL_SIZE

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


def decode(deltas: Tensor, anchors: Tensor, weights: Sequence[float]) -> Tensor:
    """Boxes of deltas [n 4] for anchors [n 4], as in lga_jax.ops.boxes.decode."""
    deltas = deltas / np.asarray(weights, np.float32)
    low, high = anchors.slice(1, 0, 2), anchors.slice(1, 2, 4)
    size = high - low
    centre = low + 0.5 * size + deltas.slice(1, 0, 2) * size
    half = 0.5 * size * deltas.slice(1, 2, 4).minimum(MAX_LOG_RATIO).apply("Exp")
    return concat([centre - half, centre + half], axis=1)


def clip(boxes: Tensor, limit: Tensor) -> Tensor:
    """Moves corners outside the image onto its border. `limit`: (width, height, width, height)."""
    return boxes.maximum(0.0).minimum(limit)


def shortest_side(boxes: Tensor) -> Tensor:
    """The smaller one of width and height of each box."""
    return (boxes.slice(1, 2, 4) - boxes.slice(1, 0, 2)).reduce("Min", 1)


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


def crop(
    maps: Sequence[Tensor], regions: Regions, strides: Sequence[int], rule: Mapping[str, Any]
) -> tuple[Tensor, Regions]:
    """Crops [r c s s] of regions in the order of their levels, and the regions in this order.

    `rule`: the recipe's `roi_align`.
    """
    graph, boxes, count = regions.boxes.graph, regions.boxes, regions.boxes.shape[0]
    levels = _levels(boxes, strides)
    indices, crops = [], []
    for level, (x, stride) in enumerate(zip(maps, strides, strict=True)):
        members = graph.node("NonZero", [levels.equals(level)], [((1, None), np.int64)])[0]
        index = members.apply("Squeeze", graph.constant([0], np.int64), shape=(None,))
        indices.append(index)
        crops.append(_roi_align(x, boxes.gather(index), index * 0, 1.0 / stride, rule))
    size = rule["crop_size"]
    order = concat(indices, axis=0)
    joined = concat(crops, axis=0)
    fixed = graph.constant([count, maps[0].shape[1], size, size], np.int64)
    joined = joined.apply("Reshape", fixed, shape=(count, maps[0].shape[1], size, size))
    order = order.apply("Reshape", graph.constant([count], np.int64), shape=(count,))
    return joined, Regions(boxes.gather(order), regions.valid.gather(order))


def choose(
    logits: Tensor,
    deltas: Tensor,
    regions: Regions,
    limit: Tensor,
    weights: Sequence[float],
    rule: Mapping[str, Any],
) -> Found:
    """The final detections, as in lga_jax.models.postprocess.detect.

    logits [r k+1] and deltas [r 4k] come from the box head; `rule`: the recipe's `inference`.
    """
    graph, (count, num_logits) = logits.graph, logits.shape
    num_classes = num_logits - 1
    scores = logits.apply("Softmax", axis=1).slice(1, 0, num_classes)
    wanted = regions.valid.reshape(-1, 1) & (scores > rule["score_threshold"])
    scores, pairs = where(wanted, scores, -1.0).reshape(-1).top(min(rule["max_candidates"], count * num_classes))
    region = pairs // num_classes
    label = pairs - region * num_classes
    boxes = clip(decode(deltas.reshape(-1, 4).gather(pairs), regions.boxes.gather(region), weights), limit)
    scores = where(shortest_side(boxes) >= rule["min_size"], scores, -1.0)
    own = label.reshape(1, -1).equals(graph.constant(np.arange(num_classes)[:, None], np.int64))
    by_class = where(own, scores.reshape(1, -1), -1.0)
    index = _suppress(boxes.reshape(1, -1, 4), by_class.reshape(1, num_classes, -1), rule["nms_iou"], 0.0)[1]
    kept = graph.constant(np.full(scores.shape, -1.0)).scattered(index, scores.gather(index))
    scores, best = kept.top(min(rule["max_detections"], scores.shape[0]))
    return Found(boxes.gather(best), scores, label.gather(best), region.gather(best), scores > 0.0)


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


def _levels(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """The number of the level of each box [r], as lga_jax.ops.roi_align.pyramid_level, but from squared sides."""
    size = (boxes.slice(1, 2, 4) - boxes.slice(1, 0, 2)).maximum(0.0)
    area = (size.slice(1, 0, 1) * size.slice(1, 1, 2)).reshape(-1)
    level = (area * 0.0).cast(np.int64)
    for stride in strides[1:]:
        least = CANONICAL_SIZE * 2.0 ** (stride.bit_length() - 1 - CANONICAL_LEVEL - 1e-6)
        level = level + (area >= least**2).cast(np.int64)
    return level


def _roi_align(x: Tensor, boxes: Tensor, batch: Tensor, scale: float, rule: Mapping[str, Any]) -> Tensor:
    size = rule["crop_size"]
    return x.apply(
        "RoiAlign",
        boxes,
        batch,
        shape=(None, x.shape[1], size, size),
        mode="avg",
        output_height=size,
        output_width=size,
        sampling_ratio=rule["sampling_ratio"],
        spatial_scale=scale,
        coordinate_transformation_mode="half_pixel" if rule["aligned"] else "output_half_pixel",
    )


def _padded(x: Tensor, length: int, value: float) -> Tensor:
    missing = length - x.shape[0]
    return concat([x, x.graph.constant(np.full((missing, *x.shape[1:]), value))], axis=0) if missing else x
