"""The mask head as ONNX operators."""

from collections.abc import Sequence

import numpy as np

from lga_jax.exporting.onnx_writer.graph import Tensor, where
from lga_jax.exporting.onnx_writer.layers import Weights, conv_norm, deconv, relu
from lga_jax.exporting.onnx_writer.pyramid import EPSILON
from lga_jax.exporting.onnx_writer.roi_features import Levels, RoIFeatures
from lga_jax.exporting.onnx_writer.selection import Found
from lga_jax.models.roi.mask_head import MaskHead


def object_masks(maps: Sequence[Tensor], found: Found, module: MaskHead, weights: Weights) -> Tensor:
    """The mask of each detection inside its box, as probabilities [d p p]; unused slots are zero."""
    features = RoIFeatures(Levels(maps), found.boxes, module.strides, module.roi_align)
    labels = found.labels.gather(features.order)
    x = features.crops()
    for number in range(1, module.num_convs + 1):
        own = dict(conv_name=f"conv{number}", norm_name=f"conv{number}_norm")
        x = relu(conv_norm(x, weights, kind=module.norm, eps=EPSILON, **own))
    x = relu(deconv(x, weights / "deconv"))
    count, channels, side, _ = x.shape
    classes = weights / "classes"
    kernel, bias = (x.constant(classes.param(name)) for name in ("kernel", "bias"))
    rows = kernel.reshape(channels, -1).transpose(1, 0).gather(labels).reshape(count, 1, channels)
    logits = rows @ x.reshape(count, channels, -1) + bias.gather(labels).reshape(count, 1, 1)
    masks = logits.cast(np.float32).apply("Sigmoid").reshape(count, side, side).gather(_inverse(features.order))
    return where(found.valid.reshape(-1, 1, 1), masks, 0.0)


def _inverse(order: Tensor) -> Tensor:
    """Where each entry of an order stands in it."""
    numbers = order.graph.constant(np.arange(order.shape[0]), np.int64)
    return numbers.scattered(order, numbers)
