"""The feature pyramid and the head of the RPN as ONNX operators."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from lga_jax.exporting.onnx_writer.graph import Tensor
from lga_jax.exporting.onnx_writer.layers import Weights, conv, conv_norm, relu
from lga_jax.models.fpn import FPN
from lga_jax.models.rpn import RPN

EPSILON = 1e-5  # of the norms outside the backbone


def feature_pyramid(features: Sequence[Tensor], module: FPN, weights: Weights) -> list[Tensor]:
    """P2..P6 of C2..C5."""
    layer = partial(conv_norm, weights=weights, kind=module.norm, eps=EPSILON)
    top_down, pyramid = None, []
    for x, stride in zip(features[::-1], module.strides[::-1], strict=True):
        level = stride.bit_length() - 1
        lateral = layer(x, conv_name=f"lateral{level}", norm_name=f"lateral{level}_norm")
        top_down = lateral if top_down is None else lateral + _upsampled(top_down, lateral.shape[2], lateral.shape[3])
        pyramid.insert(0, layer(top_down, conv_name=f"output{level}", norm_name=f"output{level}_norm"))
    last = pyramid[-1]
    sides = [(side + 1) // 2 for side in last.shape[2:]]
    every_second = last.apply("MaxPool", shape=(*last.shape[:2], *sides), kernel_shape=[1, 1], strides=[2, 2])
    return [*pyramid, every_second]


def _upsampled(x: Tensor, height: int, width: int) -> Tensor:
    """Nearest-neighbour upsampling by 2, cut to height x width."""
    scales = x.graph.constant([1.0, 1.0, 2.0, 2.0])
    shape = (*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    rule = dict(mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric")
    large = x.graph.node("Resize", [x, None, scales], [(shape, x.dtype)], **rule)[0]
    for axis, side in ((2, height), (3, width)):
        if large.shape[axis] != side:
            large = large.slice(axis, 0, side)
    return large


def rpn_head(pyramid: Sequence[Tensor], module: RPN, weights: Weights) -> tuple[list[Tensor], list[Tensor]]:
    """Objectness [a] and deltas [a 4] of each level, for the one image, float32."""
    objectness, deltas = [], []
    for x in pyramid:
        for number in range(1, module.num_convs + 1):
            x = relu(_conv(x, weights / f"conv{number}"))
        objectness.append(_channels_last(_conv(x, weights / "objectness")).reshape(-1).cast(np.float32))
        deltas.append(_channels_last(_conv(x, weights / "deltas")).reshape(-1, 4).cast(np.float32))
    return objectness, deltas


def _conv(x: Tensor, weights: Weights) -> Tensor:
    return conv(x, weights.param("kernel"), weights.param("bias"))


def _channels_last(x: Tensor) -> Tensor:
    return x.transpose(0, 2, 3, 1)
