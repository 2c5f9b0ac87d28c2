"""ResNet (He et al. 2016) without its classifier."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lga_jax.models.layers import Conv, Norm, kaiming_fan_out
from lga_jax.ops.cpu import max_pool

BASIC, BOTTLENECK = "basic", "bottleneck"
ARCHITECTURES = {
    18: (BASIC, (2, 2, 2, 2)),
    34: (BASIC, (3, 4, 6, 3)),
    50: (BOTTLENECK, (3, 4, 6, 3)),
    101: (BOTTLENECK, (3, 4, 23, 3)),
    152: (BOTTLENECK, (3, 8, 36, 3)),
}


class ResidualBlock(nn.Module):
    """conv-norm-relu chain plus shortcut; the shortcut has a projection if the shape changes."""

    width: int
    stride: int
    kind: str  # BASIC: two 3x3; BOTTLENECK: 1x1, 3x3, 1x1 with four times the width
    stride_in_1x1: bool  # bottleneck: stride in the first 1x1 (Caffe, MSRA) or in the 3x3 (torchvision)
    norm: str
    norm_eps: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b _ _ o"]:
        if self.kind == BASIC:
            convs = [(self.width, 3, self.stride), (self.width, 3, 1)]
        else:
            first, second = (self.stride, 1) if self.stride_in_1x1 else (1, self.stride)
            convs = [(self.width, 1, first), (self.width, 3, second), (4 * self.width, 1, 1)]
        y = x
        for i, (features, kernel_size, stride) in enumerate(convs, start=1):
            conv = self._conv(features, kernel_size, stride, f"conv{i}")
            y = Norm(self.norm, self.norm_eps, self.dtype, name=f"norm{i}")(y, train, conv)
            if i < len(convs):
                y = nn.relu(y)
        if x.shape != y.shape:
            conv = self._conv(y.shape[-1], 1, self.stride, "shortcut_conv")
            x = Norm(self.norm, self.norm_eps, self.dtype, name="shortcut_norm")(x, train, conv)
        return nn.relu(x + y)

    def _conv(self, features: int, kernel_size: int, stride: int, name: str) -> Conv:
        return Conv(
            features, kernel_size, stride, use_bias=False, kernel_init=kaiming_fan_out, dtype=self.dtype, name=name
        )


class ResNet(nn.Module):
    """Backbone; returns the outputs C2..C5 of its four stages, at strides 4, 8, 16, 32.

    The parts are the stem (0) and layer1 to layer4 (1 to 4).
    """

    strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)

    depth: int
    width: int
    norm: str
    frozen_stages: int
    stride_in_1x1: bool = False
    norm_eps: float = 1e-5
    remat: bool = False  # recomputes the activations inside each block in the backward pass instead of storing them
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], train: bool) -> list[Float[Array, "b _ _ _"]]:
        kind, blocks = ARCHITECTURES[self.depth]
        conv = Conv(self.width, 7, 2, use_bias=False, kernel_init=kaiming_fan_out, dtype=self.dtype, name="conv1")
        x = Norm(self.norm, self.norm_eps, self.dtype, name="norm1")(x, train and self.frozen_stages < 1, conv)
        x = nn.relu(x)
        x = max_pool(x)
        block_class = nn.remat(ResidualBlock, static_argnums=(2,)) if self.remat else ResidualBlock
        features = []
        for stage, num_blocks in enumerate(blocks, start=1):
            if self.frozen_stages == stage:
                x = jax.lax.stop_gradient(x)
            for block in range(num_blocks):
                residual = block_class(
                    width=self.width * 2 ** (stage - 1),
                    stride=2 if stage > 1 and block == 0 else 1,
                    kind=kind,
                    stride_in_1x1=self.stride_in_1x1,
                    norm=self.norm,
                    norm_eps=self.norm_eps,
                    dtype=self.dtype,
                    name=f"layer{stage}_{block}",
                )
                x = residual(x, train and self.frozen_stages <= stage)
            features.append(x)
        # The FPN also uses the outputs of frozen stages: they need stop_gradient too.
        return [jax.lax.stop_gradient(f) if self.frozen_stages > i else f for i, f in enumerate(features, start=1)]

    @staticmethod
    def part_of(path: tuple[str, ...]) -> int:
        """layer1_0 .. layer4_n are in parts 1 to 4, everything before them in part 0."""
        return int(path[0][len("layer")]) if path[0].startswith("layer") else 0
