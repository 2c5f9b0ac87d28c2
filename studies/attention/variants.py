"""Forms of the LGA head for the study that are not part of the library.

All forms keep equation 1 and the guide of the paper. With the defaults of its additional fields, `StudyHead` computes
the same as the library's head. studies/attention/rows.py explains the fields.
"""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from lga_jax.models.build import build_attention, build_detector
from lga_jax.models.detector import Detector
from lga_jax.models.roi.attention import Crop, RegionAttention, RoIFeatures
from lga_jax.models.roi.attention.lga import LGAHead, masked_averages
from lga_jax.structs import Attention, Batch, Gaussians, Outputs
from lga_jax.training.step import ExtraLoss
from studies.attention.rows import Row

# A variable with a weight per mask, 1 or 0; without it all masks take part. measure.py removes masks with it.
KEPT = ("kept", "masks")
HEAD_SIZE = 7  # cells of the box head's crop for every crop size of the attention


class StudyHead(LGAHead):
    own_classifiers: bool = False  # one classifier of the guide per mask
    union: bool = False
    guide_into: str = "all"
    subsets: bool = False  # the guide's classifier answers from every subset of the masks
    soft_sigma: bool = False

    def setup(self) -> None:
        super().setup()
        if self.own_classifiers:
            self.mask_classes = nn.Dense(
                self.num_masks * (self.num_classes + 1), kernel_init=nn.initializers.normal(0.01)
            )

    def look_closer(self, crop: RoIFeatures, gaussians: Gaussians) -> Float[Array, "*n m _"]:
        details = super().look_closer(crop, gaussians)
        if self.has_variable(*KEPT):
            details = details * self.get_variable(*KEPT)[:, None].astype(details.dtype)
        return details

    def predict_gaussians(self, crops: Float[Array, "*n s s c"]) -> Gaussians:
        return super().predict_gaussians(jax.lax.stop_gradient(crops) if self.guide_into == "head" else crops)

    def sigma_of(self, predicted: Float[Array, "*n _"]) -> Float[Array, "*n _"]:
        return nn.softplus(predicted) + 0.5 if self.soft_sigma else super().sigma_of(predicted)

    def highlight(self, crops: Float[Array, "*n s s c"], masks: Float[Array, "*n m s s"]) -> Float[Array, "*n _ _ c"]:
        if self.has_variable(*KEPT):
            masks = masks * self.get_variable(*KEPT)[:, None, None]
        if not self.union:
            return average_to(super().highlight(crops, masks), HEAD_SIZE)
        union = 1.0 - jnp.prod(1.0 - masks.astype(crops.dtype), axis=-3)
        return average_to(crops * (1.0 + union)[..., None], HEAD_SIZE)

    def guide(self, crops: Float[Array, "*n s s c"], masks: Float[Array, "*n m s s"]) -> Float[Array, "*n _ l"]:
        crops = crops if self.guide_into == "all" else jax.lax.stop_gradient(crops)
        if self.subsets:
            return self.guide_of_subsets(masked_averages(crops, masks))
        if not self.own_classifiers:
            return super().guide(crops, masks)
        # One product applies all classifiers to all masks; mask m keeps the logits of classifier m.
        logits = self.mask_classes(masked_averages(crops, masks))
        logits = logits.reshape(*logits.shape[:-1], self.num_masks, self.num_classes + 1)
        return jnp.einsum("...mmk->...mk", logits)

    def guide_of_subsets(self, averages: Float[Array, "*n m c"]) -> Float[Array, "*n _ l"]:
        """The logits of the joint classifier for every subset of the masks: the mean over all random removals.

        The classifier is linear, so the logits of a subset are a sum over its masks. It is scaled to the size of a sum
        over all of them, as in dropout.
        """
        subsets = np.array(list(itertools.product((0.0, 1.0), repeat=self.num_masks))[1:], np.float32)
        weights = self.num_masks * subsets / subsets.sum(axis=1, keepdims=True)
        masks = jnp.asarray(weights)[..., None] * averages[..., None, :, :]
        return self.guide_classes(masks.reshape(*masks.shape[:-2], -1))


class Auxiliary(nn.Module):
    """The guide's loss without masks: its classifier gets the average of the whole crop; crops are unchanged.

    The reported centre is the middle of the crop.
    """

    num_classes: int
    guide_level: str

    def setup(self) -> None:
        self.guide_classes = nn.Dense(self.num_classes + 1, kernel_init=nn.initializers.normal(0.01))

    def __call__(self, crop: Crop, train: bool) -> Attention:
        crops = crop("pyramid")
        *batch, size, _, _ = crops.shape
        middle = jnp.full((*batch, 1, 2), size / 2)
        guide_logits = None
        if train:
            seen = crops if self.guide_level == "pyramid" else crop(self.guide_level)
            guide_logits = self.guide_classes(seen.mean(axis=(-3, -2)).astype(jnp.float32))[..., None, :]
        return Attention(crops, Gaussians(middle, middle, jnp.ones((*batch, 1, size, size))), guide_logits)


class Averaged(nn.Module):
    """No attention; finer crops are averaged to the box head's size."""

    def __call__(self, crop: Crop, train: bool) -> Attention:
        return Attention(fused=average_to(crop("pyramid"), HEAD_SIZE))


def build_row(config: ConfigDict, row: Row, num_classes: int) -> Detector:
    """The detector of a resolved configuration (rows.resolve) with the row's attention."""
    return build_detector(config.model, num_classes, attention=_build_attention(config, row, num_classes))


def _build_attention(config: ConfigDict, row: Row, num_classes: int) -> RegionAttention:
    if row.attention == "auxiliary":
        return Auxiliary(num_classes, row.guide_sees)
    if row.attention == "none":
        return Averaged()
    library = build_attention(config.model.to_dict(), num_classes)
    if row.attention != "lga":
        return library
    if row.guide_sees == "close_up" and (row.guide_into != "all" or row.classifier not in ("joint", "shared")):
        raise ValueError(f"{row.text}: close-ups have the library's classifiers only, and no stops of the guide")
    names = [name for name in LGAHead.__dataclass_fields__ if name not in ("parent", "name")]
    return StudyHead(
        **{name: getattr(library, name) for name in names},
        own_classifiers=row.classifier == "per_mask",
        union=row.fusion == "union",
        guide_into=row.guide_into,
        subsets=row.classifier == "subsets",
        soft_sigma=row.soft_sigma,
    )


def extra_losses(row: Row) -> dict[str, ExtraLoss]:
    """The additional losses of a row."""

    def overlap_loss(outputs: Outputs, batch: Batch) -> Float[Array, ""]:
        return row.overlap_weight * overlap(outputs.stages[0].gaussians.masks)

    return {"overlap": overlap_loss} if row.overlap_weight else {}


def average_to(crops: Float[Array, "*n s s c"], size: int) -> Float[Array, "*n {size} {size} c"]:
    """Crops averaged over blocks of cells to `size`; unchanged if their size is not a larger multiple of it."""
    *batch, side, _, channels = crops.shape
    block = side // size
    if block <= 1:
        return crops
    return crops.reshape(*batch, size, block, size, block, channels).mean(axis=(-4, -2))


def overlap(masks: Float[Array, "*n m s s"]) -> Float[Array, ""]:
    """Mean cosine between masks of the same RoI, over all pairs and RoIs."""
    num_masks = masks.shape[-3]
    if num_masks < 2:
        return jnp.zeros(())
    flat = masks.reshape(*masks.shape[:-2], -1)
    flat /= jnp.linalg.norm(flat, axis=-1, keepdims=True)
    cosines = jnp.einsum("...ip,...jp->...ij", flat, flat)
    return (cosines.sum(axis=(-2, -1)) - num_masks).mean() / (num_masks * (num_masks - 1))
