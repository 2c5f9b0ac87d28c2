"""EfficientNet-Lite without its classifier: EfficientNet (Tan and Le 2019) without squeeze-and-excitation, with ReLU6.

https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

import math
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lga_jax.models.layers import Conv, Norm, kaiming_fan_out
from lga_jax.ops.cpu.depthwise import depthwise_conv2d

_STEM_FEATURES = 32  # in every variant
MULTIPLIERS = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}  # variant: factors for channels and blocks
# The fan_in of a depthwise kernel [n, n, 1, c] is n * n.
_kaiming_depthwise = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class BlockRule(NamedTuple):
    """Shape of one block."""

    kernel_size: int
    stride: int
    expansion: int  # hidden channels per input channel
    features: int


# (part, number of blocks, first block) (Tan and Le 2019, table 1); later blocks of a group have stride 1.
# Part 0 is the stem; the output of part n is C(n+1).
_GROUPS = (
    (0, 1, BlockRule(3, 1, 1, 16)),
    (1, 2, BlockRule(3, 2, 6, 24)),
    (2, 2, BlockRule(5, 2, 6, 40)),
    (3, 3, BlockRule(3, 2, 6, 80)),
    (3, 3, BlockRule(5, 1, 6, 112)),
    (4, 4, BlockRule(5, 2, 6, 192)),
    (4, 1, BlockRule(3, 1, 6, 320)),
)


def architecture(variant: int) -> tuple[tuple[BlockRule, ...], ...]:
    """The blocks of parts 0 to 4 of EfficientNet-Lite0, 1 or 2."""
    wider, deeper = MULTIPLIERS[variant]
    parts = [[] for _ in range(5)]
    for group, (part, blocks, rule) in enumerate(_GROUPS):
        is_end = group in (0, len(_GROUPS) - 1)  # the first and the last group keep their depth
        rule = rule._replace(features=_rounded(rule.features * wider))
        parts[part].append(rule)
        parts[part] += [rule._replace(stride=1)] * (blocks - 1 if is_end else math.ceil(blocks * deeper) - 1)
    return tuple(map(tuple, parts))


def _rounded(features: float) -> int:
    """The nearest multiple of 8; the next multiple if the nearest is more than 10 % smaller than `features`."""
    nearest = max(8, int(features + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * features else nearest + 8


class DepthwiseConv(nn.Module):
    """Depthwise convolution with TensorFlow's "SAME" padding and without bias."""

    kernel_size: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ c"]:
        kernel = self.param("kernel", _kaiming_depthwise, (self.kernel_size, self.kernel_size, 1, x.shape[-1]))
        return depthwise_conv2d(x.astype(self.dtype), kernel[:, :, 0].astype(self.dtype), self.stride)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise, linear 1x1 projection; plus the input if the shapes are equal."""

    rule: BlockRule
    norm: str
    norm_eps: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b _ _ o"]:
        y = x
        if self.rule.expansion != 1:
            y = self._conv(x.shape[-1] * self.rule.expansion, "expand")(x)
            y = nn.relu6(self._norm("expand_norm")(y, train))
        y = DepthwiseConv(self.rule.kernel_size, self.rule.stride, self.dtype, name="depthwise")(y)
        y = nn.relu6(self._norm("depthwise_norm")(y, train))
        y = self._norm("project_norm")(self._conv(self.rule.features, "project")(y), train)
        return x + y if x.shape == y.shape else y

    def _conv(self, features: int, name: str) -> Conv:
        return Conv(features, use_bias=False, kernel_init=kaiming_fan_out, dtype=self.dtype, name=name)

    def _norm(self, name: str) -> Norm:
        return Norm(self.norm, self.norm_eps, self.dtype, name=name)


class EfficientNetLite(nn.Module):
    """Backbone; returns C2..C5, the linear outputs of the last blocks with strides 4, 8, 16 and 32.

    The first `frozen_stages` parts get no gradient and use stored statistics. Part 0 is the stem with the first block.
    """

    strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)

    variant: int
    norm: str
    frozen_stages: int
    norm_eps: float = 1e-3
    remat: bool = False  # recomputes the activations inside each block in the backward pass instead of storing them
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], train: bool) -> list[Float[Array, "b _ _ _"]]:
        # XLA's padding "SAME" is the same as TensorFlow's.
        stem = dict(padding="SAME", use_bias=False, kernel_init=kaiming_fan_out, dtype=self.dtype)
        x = nn.Conv(_STEM_FEATURES, (3, 3), (2, 2), **stem, name="conv1")(x)
        x = nn.relu6(Norm(self.norm, self.norm_eps, self.dtype, name="norm1")(x, train and self.frozen_stages < 1))
        block_class = nn.remat(InvertedResidual, static_argnums=(2,)) if self.remat else InvertedResidual
        features = []
        for part, rules in enumerate(architecture(self.variant)):
            is_trained = self.frozen_stages <= part
            for number, rule in enumerate(rules):
                block = block_class(rule, self.norm, self.norm_eps, self.dtype, name=f"layer{part}_{number}")
                x = block(x, train and is_trained)
            # The FPN also uses the outputs of frozen parts: they need stop_gradient too.
            x = x if is_trained else jax.lax.stop_gradient(x)
            features.append(x)
        return features[1:]

    @staticmethod
    def part_of(path: tuple[str, ...]) -> int:
        """layer0_0 .. layer4_n are in parts 0 to 4, the convolution and norm before them in part 0."""
        return int(path[0][len("layer")]) if path[0].startswith("layer") else 0
