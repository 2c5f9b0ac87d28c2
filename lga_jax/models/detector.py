"""LGA R-CNN: the whole detector (figure 1 of the paper)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from lga_jax.models.roi.crops import Levels
from lga_jax.models.roi.mask_head import MaskHead
from lga_jax.models.roi.stage import RoIStage
from lga_jax.structs import Detections, Outputs, Targets


class Detector(nn.Module):
    """Faster R-CNN with FPN and an attention block on the RoI features; with several stages, a cascade.

    With targets, it samples anchors and RoIs for the loss and computes the guide. Without targets, all proposals enter
    the stages. A mask head predicts the masks of the positive RoIs of the last stage, and later those of the final
    detections.
    """

    backbone: nn.Module  # a Backbone
    fpn: nn.Module
    rpn: nn.Module
    stages: tuple[RoIStage, ...]
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    dtype: Any
    mask_head: MaskHead | None = None

    def setup(self) -> None:
        # The parameters of the first stage are named attention and box_head, beside backbone, also in a cascade; the
        # parameters of later stages are in stages_1, stages_2, ...
        nn.share_scope(self, self.stages[0])

    def __call__(
        self,
        images: UInt8[Array, "b h w 3"],
        image_hw: Float[Array, "b 2"],
        targets: Targets | None = None,
        keys: Key[Array, "b"] | None = None,
        positive_iou: Float[Array, ""] | None = None,
    ) -> Outputs:
        """Computes all outputs. With targets, sampling uses one key per image and does not depend on other images.

        positive_iou: replaces the positive IoU of the first stage's sampling.
        """
        train = targets is not None
        rpn_keys, *stage_keys = self._split(keys)
        random = (keys,) if self.has_stochastic_depth and keys is not None else ()
        features = self.backbone(self.normalise(images, image_hw), train, *random)
        pyramid = self.fpn(features, train)
        rpn, rois = self.rpn(pyramid, images.shape[1:3], image_hw, targets, rpn_keys)
        levels = Levels(pyramid[:-1], features[0])
        outputs = []
        changed = () if positive_iou is None else (positive_iou,)  # for the first stage only
        for stage, key in zip(self.stages, stage_keys, strict=True):
            outputs.append(stage(levels, rois, targets, key, *changed))
            rois, changed = stage.refined(outputs[-1], image_hw), ()
        if self.mask_head is None:
            return Outputs(rpn, tuple(outputs))
        if not train:  # `masks` then needs the final detections
            return Outputs(rpn, tuple(outputs), pyramid=tuple(pyramid[:-1]))
        return Outputs(rpn, tuple(outputs), self.mask_head.of_samples(pyramid[:-1], outputs[-1], targets))

    def masks(self, pyramid: tuple[Float[Array, "b _ _ c"], ...], found: Detections) -> Float[Array, "b d p p"]:
        """The mask of each detection inside its box, as probabilities; unused slots are zero.

        `pyramid`: from the outputs without targets.
        """
        logits = self.mask_head(pyramid, found.boxes, found.labels, False)
        return jnp.where(found.valid[..., None, None], nn.sigmoid(logits), 0.0)

    @property
    def has_stochastic_depth(self) -> bool:
        """Whether training skips blocks of the backbone by chance."""
        return getattr(self.backbone, "stochastic_depth", 0.0) > 0.0

    def without_stochastic_depth(self) -> "Detector":
        """The same detector, which skips nothing: for losses that are compared."""
        return self.clone(backbone=self.backbone.clone(stochastic_depth=0.0)) if self.has_stochastic_depth else self

    def stage(self, number: int) -> RoIStage:
        """A stage with its parameters, for a function that `apply` calls with the detector.

        Reading `stages` there does not call `setup`, so the parameters of the first stage would not be found.
        """
        return self.stages[number]

    def _split(self, keys: Key[Array, "b"] | None) -> list[Key[Array, "b"] | None]:
        """Keys for the RPN and for every stage."""
        count = 1 + len(self.stages)
        return (
            [None] * count if keys is None else list(jax.vmap(lambda k: jax.random.split(k, count), out_axes=1)(keys))
        )

    def normalise(self, images: UInt8[Array, "b h w 3"], image_hw: Float[Array, "b 2"]) -> Float[Array, "b h w 3"]:
        """Subtracts pixel_mean and divides by pixel_std; the padding is zero."""
        x = (images.astype(jnp.float32) - np.asarray(self.pixel_mean)) / np.asarray(self.pixel_std)
        rows = jnp.arange(images.shape[1])[None, :, None] < image_hw[:, 0, None, None]
        columns = jnp.arange(images.shape[2])[None, None, :] < image_hw[:, 1, None, None]
        return jnp.where((rows & columns)[..., None], x, 0.0).astype(self.dtype)
