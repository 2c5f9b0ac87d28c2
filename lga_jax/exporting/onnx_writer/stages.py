"""The RoI stages, one or the several of a cascade, as ONNX operators."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from lga_jax.exporting.onnx_writer.attention import ATTENTIONS
from lga_jax.exporting.onnx_writer.boxes import clip, decode, shortest_side
from lga_jax.exporting.onnx_writer.graph import Tensor, where
from lga_jax.exporting.onnx_writer.layers import Weights, conv_norm, dense, relu
from lga_jax.exporting.onnx_writer.pyramid import EPSILON
from lga_jax.exporting.onnx_writer.roi_features import Levels, RoIFeatures
from lga_jax.exporting.onnx_writer.selection import Regions
from lga_jax.models.roi.box_head import BoxHead
from lga_jax.models.roi.stage import RoIStage


class Masked(NamedTuple):
    """The Gaussian masks of regions."""

    boxes: Tensor  # [r 4], in which the masks are defined
    centres: Tensor  # [r m 2], cells
    sigmas: Tensor


class Predicted(NamedTuple):
    """The result of all stages, with the same order of regions in all tensors."""

    regions: Regions  # the regions of the last stage
    scores: Tensor  # [r k], the mean of all stages
    deltas: Tensor  # [r 4k] or [r 4], of the last stage
    masked: Masked | None  # of the last stage with masks


def run_stages(
    levels: Levels, regions: Regions, stages: Sequence[RoIStage], weights: Weights, limit: Tensor
) -> Predicted:
    """All stages. `limit`: (width, height, width, height) of the image."""
    scores: list[Tensor] = []
    masked = None
    for number, stage in enumerate(stages):
        own = weights / f"stages_{number}" if number else weights
        features = RoIFeatures(levels, regions.boxes, stage.strides, stage.roi_align)
        order = features.order
        valid, scores = regions.valid.gather(order), [earlier.gather(order) for earlier in scores]
        masked = masked and Masked(*(tensor.gather(order) for tensor in masked))
        attended = ATTENTIONS[type(stage.attention)](features, stage.attention, own / "attention")
        logits, deltas = box_head(attended.fused, stage.box_head, own / "box_head")
        scores.append(logits.apply("Softmax", axis=1).slice(1, 0, stage.num_classes))
        if attended.centres is not None:
            masked = Masked(features.boxes, attended.centres, attended.sigmas)
        predicted = Regions(features.boxes, valid)
        if number < len(stages) - 1:
            regions = _refined(predicted, scores[-1], deltas, stage.coder_weights, limit)
    mean = sum(scores[1:], start=scores[0])
    return Predicted(predicted, mean * (1.0 / len(scores)) if len(scores) > 1 else mean, deltas, masked)


def box_head(crops: Tensor, module: BoxHead, weights: Weights) -> tuple[Tensor, Tensor]:
    """Class logits [r k+1], and box deltas [r 4k], or [r 4] for all classes, of crops [r c s s]; float32."""
    layer = partial(conv_norm, weights=weights, kind=module.norm, eps=EPSILON)
    x = crops
    for number in range(1, module.num_convs + 1):
        x = relu(layer(x, conv_name=f"conv{number}", norm_name=f"conv{number}_norm"))
    crop_shape = (*x.shape[2:], x.shape[1])
    x = x.reshape(x.shape[0], -1)
    for number in range(1, module.num_fcs + 1):
        x = relu(dense(x, weights / f"fc{number}", from_crop=crop_shape))
        crop_shape = None
    return tuple(dense(x, weights / name, from_crop=crop_shape).cast(np.float32) for name in ("classes", "deltas"))


def _refined(
    regions: Regions, scores: Tensor, deltas: Tensor, coder_weights: Sequence[float], limit: Tensor
) -> Regions:
    """The regions of the next stage, as RoIStage.refined."""
    count, num_classes = scores.shape
    if deltas.shape[1] > 4:
        best = scores.graph.node("ArgMax", [scores], [((count,), np.int64)], axis=1, keepdims=0)[0]
        first = scores.graph.constant(np.arange(count) * num_classes, np.int64)
        deltas = deltas.reshape(-1, 4).gather(first + best)
    boxes = clip(decode(deltas, regions.boxes, coder_weights), limit)
    valid = regions.valid & (shortest_side(boxes) > 0.0)
    return Regions(where(valid.reshape(-1, 1), boxes, 0.0), valid)
