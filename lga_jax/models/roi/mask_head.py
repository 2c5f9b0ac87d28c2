"""The head that predicts which part of a box its object covers (Mask R-CNN, He et al. 2017), and its loss."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from lga_jax.models.layers import ConvWeights, Deconv, conv_norm, kaiming_fan_out
from lga_jax.models.roi.crops import Levels, RoICrops
from lga_jax.ops.mask_targets import mask_targets
from lga_jax.structs import MaskOutputs, StageOutputs, Targets

Pyramid = Sequence[Float[Array, "b _ _ c"]]


class MaskHead(nn.Module):
    """Convolutions on the crop of a box, a deconvolution to twice the side, and a mask of one class.

    Every class has its own mask. Only that of the wanted class is computed.
    """

    num_convs: int  # 3x3 convolutions
    channels: int  # of every convolution
    norm: str  # norm after every 3x3 convolution: "none" or one of layers.NORMS
    roi_align: Mapping[str, Any]  # crop_size, sampling_ratio and aligned of ops.roi_align
    strides: tuple[int, ...]  # strides of the feature maps
    num_slots: int  # RoIs per image in training: as many as can be positive
    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        pyramid: Pyramid,
        boxes: Float[Array, "b r 4"],
        labels: Int[Array, "b r"],
        train: bool,
        counted: Bool[Array, "b r"] | None = None,
    ) -> Float[Array, "b r p p"]:
        """Logits of the mask of class `labels` in each box; p is twice the crop size.

        `counted`: the boxes whose crops are in the statistics of batch norm; None: all. The boxes get no gradient.
        """
        crops = RoICrops(Levels(pyramid), boxes, self.strides, self.roi_align)("pyramid")
        x = crops.reshape(-1, *crops.shape[2:])
        for i in range(1, self.num_convs + 1):
            x = conv_norm(
                x,
                train,
                features=self.channels,
                kernel_size=3,
                norm=self.norm,
                kernel_init=kaiming_fan_out,
                dtype=self.dtype,
                counted=None if counted is None else counted.reshape(-1, 1, 1, 1),
                name=f"conv{i}",
            )
            x = nn.relu(x)
        x = nn.relu(Deconv(self.channels, self.dtype, name="deconv")(x))
        kernel, bias = ConvWeights(self.num_classes, nn.initializers.normal(0.001), self.dtype, name="classes")(
            self.channels
        )
        labels = labels.reshape(-1)
        logits = jnp.einsum("nyxijc,nc->nyixj", x, kernel[0, 0].T[labels]) + bias[labels][:, None, None, None, None]
        side = 2 * crops.shape[2]
        return logits.reshape(*boxes.shape[:2], side, side).astype(jnp.float32)

    def of_samples(self, pyramid: Pyramid, stage: StageOutputs, targets: Targets) -> MaskOutputs:
        """Logits and true masks of the positive RoIs of a stage, which stand in its first slots."""
        found = jax.tree.map(lambda leaf: leaf[:, : self.num_slots], stage.targets._replace(verified=None))
        boxes = stage.rois.boxes[:, : self.num_slots]
        positive = found.valid & (found.labels < self.num_classes)
        logits = self(pyramid, boxes, jnp.minimum(found.labels, self.num_classes - 1), True, positive)
        true = functools.partial(mask_targets, mask_size=logits.shape[-1], aligned=self.roi_align["aligned"])
        wanted = jax.vmap(true)(targets.masks, targets.boxes, boxes, found.matched)
        return MaskOutputs(logits, wanted, positive & jnp.take_along_axis(targets.has_mask, found.matched, axis=1))


def mask_loss(outputs: MaskOutputs) -> Float[Array, ""]:
    """Binary cross-entropy of the cells of the valid RoIs: their mean in each image, then over the images.

    Mask R-CNN divides by the valid RoIs of all images together. The mean by image is the same for one image, and does
    not depend on the number of devices. An image without valid RoIs counts as 0.
    """
    losses = optax.sigmoid_binary_cross_entropy(outputs.logits, outputs.targets).mean(axis=(-2, -1))
    count = jnp.maximum(outputs.valid.sum(axis=-1), 1)
    return jnp.mean(jnp.where(outputs.valid, losses, 0.0).sum(axis=-1) / count)
