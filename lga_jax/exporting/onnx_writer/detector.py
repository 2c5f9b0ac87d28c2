"""The whole detector as an ONNX model. Inputs and outputs are those of a StableHLO program (docs/export.md)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import numpy as np

from lga_jax.errors import UserError, listed
from lga_jax.exporting.onnx_writer.attention import ATTENTIONS, Attended
from lga_jax.exporting.onnx_writer.backbones import BACKBONES
from lga_jax.exporting.onnx_writer.graph import Graph, Tensor, concat, where
from lga_jax.exporting.onnx_writer.layers import Weights, conv_norm, dense, relu
from lga_jax.exporting.onnx_writer.pyramid import EPSILON, feature_pyramid, rpn_head
from lga_jax.exporting.onnx_writer.regions import Found, Regions, choose, crop, propose
from lga_jax.models.detector import Detector
from lga_jax.models.fpn import FPN
from lga_jax.models.roi.box_head import BoxHead
from lga_jax.models.rpn import CODER_WEIGHTS, RPN
from lga_jax.ops.anchors import pyramid_anchors


def onnx_model(
    detector: Detector,
    variables: Mapping[str, Any],
    inference: Mapping[str, Any],
    hw: tuple[int, int],
    metadata: Mapping[str, str],
) -> bytes:
    """The bytes of an ONNX model for padded images of height and width `hw`, in float32.

    Args:
        detector: a detector of built-in modules with one RoI stage.
        variables: its 'params' and 'batch_stats'.
        inference: the recipe's `inference`.
        hw: height and width of the padded images.
        metadata: texts stored in the model.

    Raises:
        UserError: a module of the detector is not a built-in one.
    """
    _check_modules(detector)
    graph = Graph()
    image = graph.input("image", (*hw, 3), np.uint8)
    image_hw = graph.input("image_hw", (2,), np.float32)
    original_hw = graph.input("original_hw", (2,), np.float32)
    weights = Weights(variables["params"], variables.get("batch_stats", {}))
    width_height = image_hw.gather(graph.constant([1, 0, 1, 0], np.int64))

    x = _normalised(image, image_hw, detector)
    features = BACKBONES[type(detector.backbone)](x, detector.backbone, weights / "backbone")
    pyramid = feature_pyramid(features, detector.fpn, weights / "fpn")
    regions = _proposals(pyramid, detector.rpn, weights / "rpn", width_height, hw)
    stage = detector.stages[0]
    crops, regions = crop(pyramid[:-1], regions, stage.strides, stage.roi_align)
    attended = ATTENTIONS[type(stage.attention)](crops, stage.attention, weights / "attention")
    logits, deltas = box_head(attended.fused, stage.box_head, weights / "box_head")
    found = choose(logits, deltas, regions, width_height, stage.coder_weights, inference)
    scale = original_hw.gather(graph.constant([1, 0, 1, 0], np.int64)) / width_height
    return graph.file(_outputs(found, regions, attended, scale, stage.roi_align["crop_size"]), dict(metadata))


def box_head(crops: Tensor, module: BoxHead, weights: Weights) -> tuple[Tensor, Tensor]:
    """Class logits [r k+1] and box deltas [r 4k] of crops [r c s s]."""
    layer = partial(conv_norm, weights=weights, kind=module.norm, eps=EPSILON)
    x = crops
    for number in range(1, module.num_convs + 1):
        x = relu(layer(x, conv_name=f"conv{number}", norm_name=f"conv{number}_norm"))
    crop_shape = (*x.shape[2:], x.shape[1])
    x = x.reshape(x.shape[0], -1)
    for number in range(1, module.num_fcs + 1):
        x = relu(dense(x, weights / f"fc{number}", from_crop=crop_shape))
        crop_shape = None
    return tuple(dense(x, weights / name, from_crop=crop_shape) for name in ("classes", "deltas"))


def _normalised(image: Tensor, image_hw: Tensor, detector: Detector) -> Tensor:
    """[1 3 h w], zero in the padding."""
    height, width, _ = image.shape
    x = (image.cast(np.float32) - np.asarray(detector.pixel_mean)) / np.asarray(detector.pixel_std)
    rows = image.graph.constant(np.arange(height)[:, None, None]) < image_hw.slice(0, 0, 1)
    columns = image.graph.constant(np.arange(width)[:, None]) < image_hw.slice(0, 1, 2)
    return where(rows & columns, x, 0.0).transpose(2, 0, 1).reshape(1, 3, height, width)


def _proposals(pyramid: Sequence[Tensor], rpn: RPN, weights: Weights, limit: Tensor, hw: tuple[int, int]) -> Regions:
    objectness, deltas = rpn_head(pyramid, rpn, weights)
    anchors = pyramid_anchors(hw, [x.shape[2:] for x in pyramid], rpn.strides, **rpn.anchors)
    places = [np.asarray(level) for level in anchors]
    return propose(objectness, deltas, places, limit, CODER_WEIGHTS, rpn.proposals)


def _outputs(found: Found, regions: Regions, attended: Attended, scale: Tensor, crop_size: int) -> dict[str, Tensor]:
    """All outputs in pixels of the original image; unused slots are zero."""
    count = found.scores.shape[0]
    used = found.valid.reshape(count, 1)
    rois = regions.boxes.gather(found.regions)
    outputs = {
        "boxes": where(used, found.boxes * scale, 0.0),
        "scores": where(found.valid, found.scores, 0.0),
        "labels": where(found.valid, found.labels, 0).cast(np.int32),
        "valid": found.valid,
        "rois": where(used, rois * scale, 0.0),
    }
    scale_xy = scale.slice(0, 0, 2)
    if attended.centres is None:
        nothing = scale.graph.constant(np.zeros((count, 0, 2)))
        return outputs | {"mask_centres": nothing, "mask_sigmas": nothing}
    corner, cell = rois.slice(1, 0, 2), (rois.slice(1, 2, 4) - rois.slice(1, 0, 2)) / float(crop_size)
    used, corner, cell = (x.reshape(count, 1, -1) for x in (used, corner, cell))
    centres, sigmas = (x.gather(found.regions) for x in (attended.centres, attended.sigmas))
    return outputs | {
        "mask_centres": where(used, (corner + centres * cell) * scale_xy, 0.0),
        "mask_sigmas": where(used, sigmas * cell * scale_xy, 0.0),
    }


def _check_modules(detector: Detector) -> None:
    """Raises UserError for modules that only their author can write as operators."""
    if len(detector.stages) != 1:
        raise UserError("format onnx", expected="a detector with one RoI stage", found=str(len(detector.stages)))
    stage = detector.stages[0]
    for name, module, kinds in (
        ("backbone", detector.backbone, BACKBONES),
        ("fpn", detector.fpn, (FPN,)),
        ("rpn", detector.rpn, (RPN,)),
        ("attention", stage.attention, ATTENTIONS),
        ("box_head", stage.box_head, (BoxHead,)),
    ):
        if type(module) not in kinds:
            raise UserError(
                f"format onnx: {name}",
                expected=f"a built-in one ({listed([kind.__name__ for kind in kinds])})",
                found=type(module).__name__,
                remedy="use the format stablehlo",
            )
