"""The whole detector as an ONNX model. Inputs and outputs are those of a StableHLO program (docs/export.md)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lga_jax.errors import UserError, listed
from lga_jax.exporting.onnx_writer.attention import ATTENTIONS
from lga_jax.exporting.onnx_writer.backbones import BACKBONES
from lga_jax.exporting.onnx_writer.graph import OPSET, OPSET_BFLOAT16, DType, Graph, Tensor, where
from lga_jax.exporting.onnx_writer.layers import Weights
from lga_jax.exporting.onnx_writer.mask_head import object_masks
from lga_jax.exporting.onnx_writer.pyramid import feature_pyramid, rpn_head
from lga_jax.exporting.onnx_writer.roi_features import Levels
from lga_jax.exporting.onnx_writer.selection import Found, Regions, choose, propose
from lga_jax.exporting.onnx_writer.stages import Masked, run_stages
from lga_jax.models.detector import Detector
from lga_jax.models.fpn import FPN
from lga_jax.models.roi.box_head import BoxHead
from lga_jax.models.roi.mask_head import MaskHead
from lga_jax.models.roi.stage import RoIStage
from lga_jax.models.rpn import CODER_WEIGHTS, RPN
from lga_jax.ops.anchors import pyramid_anchors


def onnx_model(
    detector: Detector,
    variables: Mapping[str, Any],
    inference: Mapping[str, Any],
    hw: tuple[int, int],
    metadata: Mapping[str, str],
    dtype: DType = np.float32,
) -> bytes:
    """The bytes of an ONNX model for padded images of height and width `hw`.

    Args:
        detector: a detector of built-in modules.
        variables: its 'params' and 'batch_stats'.
        inference: the recipe's `inference`.
        hw: height and width of the padded images.
        metadata: texts stored in the model.
        dtype: of weights and activations, np.float32, np.float16 or jnp.bfloat16. Scores and boxes are float32.

    Raises:
        UserError: a module of the detector is not a built-in one.
    """
    _check_modules(detector)
    graph = Graph(OPSET_BFLOAT16 if dtype == jnp.bfloat16 else OPSET)
    image = graph.input("image", (*hw, 3), np.uint8)
    image_hw = graph.input("image_hw", (2,), np.float32)
    original_hw = graph.input("original_hw", (2,), np.float32)
    weights = Weights(variables["params"], variables.get("batch_stats", {}))
    both_corners = graph.constant([1, 0, 1, 0], np.int64)
    limit = image_hw.gather(both_corners)

    x = _normalised(image, image_hw, detector).cast(dtype)
    features = BACKBONES[type(detector.backbone)](x, detector.backbone, weights / "backbone")
    pyramid = feature_pyramid(features, detector.fpn, weights / "fpn")
    regions = _proposals(pyramid, detector.rpn, weights / "rpn", limit, hw)
    last = detector.stages[-1]
    predicted = run_stages(Levels(pyramid[:-1], features[0]), regions, detector.stages, weights, limit)
    regions, masked = predicted.regions, predicted.masked
    found = choose(predicted.scores, predicted.deltas, regions, limit, last.coder_weights, inference)
    scale = original_hw.gather(both_corners) / limit
    rois = (regions if masked is None else masked).boxes.gather(found.regions)
    outputs = _outputs(found, rois, scale) | _masks(found, rois, masked, scale, last.roi_align["crop_size"])
    if detector.mask_head is not None:
        outputs["masks"] = object_masks(pyramid[:-1], found, detector.mask_head, weights / "mask_head")
    return graph.file(outputs, dict(metadata))


def _normalised(image: Tensor, image_hw: Tensor, detector: Detector) -> Tensor:
    """[1 3 h w], zero in the padding."""
    height, width, _ = image.shape
    x = (image.cast(np.float32) - np.asarray(detector.pixel_mean)) / np.asarray(detector.pixel_std)
    rows = image.graph.constant(np.arange(height)[:, None, None]) < image_hw.slice(0, 0, 1)
    columns = image.graph.constant(np.arange(width)[:, None]) < image_hw.slice(0, 1, 2)
    return where(rows & columns, x, 0.0).transpose(2, 0, 1).reshape(1, 3, height, width)


def _proposals(pyramid: Sequence[Tensor], rpn: RPN, weights: Weights, limit: Tensor, hw: tuple[int, int]) -> Regions:
    objectness, deltas = rpn_head(pyramid, rpn, weights)
    sides = [x.shape[2:] for x in pyramid]
    # Compiled as one program: operation by operation, every shape of every level would be compiled.
    anchors = jax.jit(lambda: pyramid_anchors(hw, sides, rpn.strides, **rpn.anchors))()
    places = [np.asarray(level) for level in anchors]
    return propose(objectness, deltas, places, limit, CODER_WEIGHTS, rpn.proposals)


def _outputs(found: Found, rois: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """The outputs without masks, in pixels of the original image; unused slots are zero."""
    used = found.valid.reshape(-1, 1)
    return {
        "boxes": where(used, found.boxes * scale, 0.0),
        "scores": where(found.valid, found.scores, 0.0),
        "labels": where(found.valid, found.labels, 0).cast(np.int32),
        "valid": found.valid,
        "rois": where(used, rois * scale, 0.0),
    }


def _masks(found: Found, rois: Tensor, masked: Masked | None, scale: Tensor, crop_size: int) -> dict[str, Tensor]:
    """Centres and sigmas in pixels of the original image. No outputs without masks: empty ones suit few runtimes."""
    if masked is None:
        return {}
    count = found.scores.shape[0]
    used, scale_xy = found.valid.reshape(count, 1, 1), scale.slice(0, 0, 2)
    corner = rois.slice(1, 0, 2)
    cell = ((rois.slice(1, 2, 4) - corner) / crop_size).reshape(count, 1, 2)
    centres, sigmas = masked.centres.gather(found.regions), masked.sigmas.gather(found.regions)
    places = corner.reshape(count, 1, 2) + centres * cell
    return {
        "mask_centres": where(used, places * scale_xy, 0.0),
        "mask_sigmas": where(used, sigmas * cell * scale_xy, 0.0),
    }


def _check_modules(detector: Detector) -> None:
    """Raises UserError for modules that only their author can write as operators."""
    parts = [
        ("backbone", detector.backbone, BACKBONES),
        ("fpn", detector.fpn, (FPN,)),
        ("rpn", detector.rpn, (RPN,)),
    ]
    if detector.mask_head is not None:
        parts.append(("mask_head", detector.mask_head, (MaskHead,)))
    for stage in detector.stages:
        parts.append(("stages", stage, (RoIStage,)))
        if isinstance(stage, RoIStage):
            parts += [("attention", stage.attention, ATTENTIONS), ("box_head", stage.box_head, (BoxHead,))]
    for name, module, kinds in parts:
        if type(module) not in kinds:
            raise UserError(
                f"format onnx: {name}",
                expected=f"a built-in one ({listed([kind.__name__ for kind in kinds])})",
                found=type(module).__name__,
                remedy="use the format stablehlo",
            )
