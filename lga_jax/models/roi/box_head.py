"""The head that predicts class logits and box deltas for each RoI (Fast R-CNN)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lga_jax.models.layers import Dense, conv_norm, kaiming_fan_out, uniform_fan_in, xavier_caffe2


class BoxHead(nn.Module):
    """Convolutions and hidden layers, then k + 1 class logits (background last) and box deltas.

    There are box deltas for each foreground class, or with `class_agnostic` one box for all classes.
    """

    num_convs: int  # 3x3 convolutions with the channels of the crops
    num_fcs: int
    hidden: int
    norm: str  # norm after every convolution: "none" or one of layers.NORMS
    dense_init: str  # initial weights of dense layers: "detectron2" or "torchvision"
    class_agnostic: bool
    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, crops: Float[Array, "b r s s c"], train: bool
    ) -> tuple[Float[Array, "b r l"], Float[Array, "b r _ 4"]]:
        x = crops.reshape(-1, *crops.shape[2:])
        for i in range(1, self.num_convs + 1):
            x = conv_norm(
                x,
                train,
                features=x.shape[-1],
                kernel_size=3,
                norm=self.norm,
                kernel_init=kaiming_fan_out,
                dtype=self.dtype,
                name=f"conv{i}",
            )
            x = nn.relu(x)
        x = x.reshape(*crops.shape[:2], -1)
        for i in range(1, self.num_fcs + 1):
            x = nn.relu(self._dense(x, self.hidden, xavier_caffe2, f"fc{i}"))
        logits = self._dense(x, self.num_classes + 1, nn.initializers.normal(0.01), "classes")
        num_boxes = 1 if self.class_agnostic else self.num_classes
        deltas = self._dense(x, 4 * num_boxes, nn.initializers.normal(0.001), "deltas")
        deltas = deltas.reshape(*deltas.shape[:-1], num_boxes, 4)
        return logits.astype(jnp.float32), deltas.astype(jnp.float32)

    def _dense(
        self, x: Float[Array, "b r _"], features: int, detectron2_init: nn.initializers.Initializer, name: str
    ) -> Float[Array, "b r {features}"]:
        init = dict(kernel_init=detectron2_init)
        if self.dense_init == "torchvision":
            bound = x.shape[-1] ** -0.5
            init = dict(
                kernel_init=uniform_fan_in,
                bias_init=lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound),
            )
        return Dense(features, **init, dtype=self.dtype, name=name)(x)
