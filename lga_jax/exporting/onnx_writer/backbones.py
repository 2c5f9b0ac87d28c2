"""Backbones as ONNX operators: one function for each family of lga_jax.models.build.BACKBONES."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn

from lga_jax.exporting.onnx_writer.graph import Tensor
from lga_jax.exporting.onnx_writer.layers import (
    Padding,
    Weights,
    conv,
    conv_norm,
    gelu,
    layer_norm,
    pointwise,
    relu,
    relu6,
)
from lga_jax.exporting.onnx_writer.transformers import swin, vit
from lga_jax.models.backbones.convnext import ARCHITECTURES as CONVNEXT
from lga_jax.models.backbones.convnext import EPSILON as CONVNEXT_EPSILON
from lga_jax.models.backbones.convnext import ConvNeXt
from lga_jax.models.backbones.efficientnet_lite import BlockRule, EfficientNetLite, architecture
from lga_jax.models.backbones.resnet import ARCHITECTURES, BASIC, ResNet
from lga_jax.models.backbones.swin import Swin
from lga_jax.models.backbones.vit import ViT
from lga_jax.ops.cpu.depthwise import same_padding


def resnet(x: Tensor, module: ResNet, weights: Weights) -> list[Tensor]:
    """C2..C5 of a ResNet."""
    x = relu(_layer(module)(x, weights, "conv1", "norm1", stride=2))
    side = [(side - 1) // 2 + 1 for side in x.shape[2:]]
    x = x.apply("MaxPool", shape=(*x.shape[:2], *side), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    features = []
    for stage, blocks in enumerate(ARCHITECTURES[module.depth][1], start=1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            x = _residual_block(x, module, weights / f"layer{stage}_{block}", stride)
        features.append(x)
    return features


def _residual_block(x: Tensor, module: ResNet, weights: Weights, stride: int) -> Tensor:
    layer = _layer(module)
    strides = [stride, 1]
    if ARCHITECTURES[module.depth][0] != BASIC:
        strides = [stride, 1, 1] if module.stride_in_1x1 else [1, stride, 1]
    y = x
    for number, step in enumerate(strides, start=1):
        y = layer(y, weights, f"conv{number}", f"norm{number}", stride=step)
        y = relu(y) if number < len(strides) else y
    if x.shape != y.shape:
        x = layer(x, weights, "shortcut_conv", "shortcut_norm", stride=stride)
    return relu(x + y)


def efficientnet_lite(x: Tensor, module: EfficientNetLite, weights: Weights) -> list[Tensor]:
    """C2..C5 of an EfficientNet-Lite."""
    layer = _layer(module)
    x = relu6(layer(x, weights, "conv1", "norm1", stride=2, padding=_same(x, 3, 2)))
    features = []
    for part, rules in enumerate(architecture(module.variant)):
        for number, rule in enumerate(rules):
            x = _inverted_residual(x, module, rule, weights / f"layer{part}_{number}")
        features.append(x)
    return features[1:]


def _inverted_residual(x: Tensor, module: EfficientNetLite, rule: BlockRule, weights: Weights) -> Tensor:
    layer = _layer(module)
    y = relu6(layer(x, weights, "expand", "expand_norm")) if rule.expansion != 1 else x
    padding = _same(y, rule.kernel_size, rule.stride)
    depthwise = dict(stride=rule.stride, padding=padding, groups=y.shape[1])
    y = relu6(layer(y, weights, "depthwise", "depthwise_norm", **depthwise))
    y = layer(y, weights, "project", "project_norm")
    return x + y if x.shape == y.shape else y


def convnext(x: Tensor, module: ConvNeXt, weights: Weights) -> list[Tensor]:
    """C2..C5 of a ConvNeXt."""
    blocks, _ = CONVNEXT[module.variant]
    x = layer_norm(_patches(x, weights / "stem", 4), weights / "stem_norm", CONVNEXT_EPSILON)
    features = []
    for part, count in enumerate(blocks, start=1):
        if part > 1:
            x = layer_norm(x, weights / f"down{part}_norm", CONVNEXT_EPSILON)
            x = _patches(x, weights / f"down{part}", 2)
        for number in range(count):
            x = _convnext_block(x, weights / f"layer{part}_{number}")
        features.append(layer_norm(x, weights / f"output{part + 1}_norm", CONVNEXT_EPSILON))
    return features


def _convnext_block(x: Tensor, weights: Weights) -> Tensor:
    own = weights / "depthwise"
    y = conv(x, own.param("kernel"), own.param("bias"), groups=x.shape[1])
    y = layer_norm(y, weights / "norm", CONVNEXT_EPSILON)
    y = pointwise(gelu(pointwise(y, weights / "expand")), weights / "project")
    return x + y * weights.param("layer_scale")[:, None, None]


def _patches(x: Tensor, weights: Weights, size: int) -> Tensor:
    return conv(x, weights.param("kernel"), weights.param("bias"), stride=size, padding=_same(x, size, size))


def _layer(module: ResNet | EfficientNetLite) -> Callable[..., Tensor]:
    return partial(conv_norm, kind=module.norm, eps=module.norm_eps)


def _same(x: Tensor, kernel_size: int, stride: int) -> Padding:
    return tuple(same_padding(side, kernel_size, stride) for side in x.shape[2:])


BACKBONES: dict[type[nn.Module], Callable[..., list[Tensor]]] = {
    ResNet: resnet,
    EfficientNetLite: efficientnet_lite,
    ConvNeXt: convnext,
    Swin: swin,
    ViT: vit,
}
