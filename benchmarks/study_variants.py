"""Forms of the LGA head that the study tries and the library does without.

Every one keeps equation 1 and the guide of the paper: `StudyHead` is the library's head, and with its own fields at
their defaults it computes the same. What each field means stands in benchmarks/study_rows.py.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from benchmarks.study_rows import Row
from lga_jax.models.detector import Detector, build_detector
from lga_jax.models.fpn import FPN
from lga_jax.models.lga_head import LGAHead
from lga_jax.models.rpn import RPNHead
from lga_jax.ops.gaussian import gaussian_masks
from lga_jax.structs import Attention, Gaussians

HEAD_SIZE = 7  # cells of the crop that the box head reads, whatever the attention works on


class StudyHead(LGAHead):
    union: bool = False
    joint: bool = False
    guide_into: str = "all"
    softmax: bool = False
    overlap_weight: float = 0.0
    local_channels: int = 0  # the last channels of the crops: of a finer level, and for the guide alone

    def setup(self) -> None:
        super().setup()
        # Layers of the library's head that a form does not call hold no parameters.
        if self.softmax:
            self.softmax_centres = SoftmaxCentres(self.num_masks)
        if self.joint:
            self.joint_classes = nn.Dense(self.num_classes + 1, kernel_init=nn.initializers.normal(0.01))

    def __call__(self, crops: Float[Array, "*n s s _"]) -> Attention:
        crops = crops[..., : crops.shape[-1] - self.local_channels]
        read = jax.lax.stop_gradient(crops) if self.guide_into == "head" else crops
        gaussians = self.predict_gaussians(read)
        if self.overlap_weight:
            gaussians = gaussians._replace(masks=_with_overlap_gradient(gaussians.masks, self.overlap_weight))
        masks = gaussians.masks.astype(crops.dtype)
        if self.fusion == "concat":
            fused = self.fuse(crops, masks)
        else:
            highlight = 1.0 - jnp.prod(1.0 - masks, axis=-3) if self.union else masks.mean(axis=-3)
            fused = crops * (1.0 + highlight)[..., None]
        return Attention(fused=average_to(fused, HEAD_SIZE), gaussians=gaussians)

    def predict_gaussians(self, crops: Float[Array, "*n s s c"]) -> Gaussians:
        if not self.softmax:
            return super().predict_gaussians(crops)
        size = crops.shape[-2]
        reduced = nn.relu(self.reduce(crops))
        centres = self.softmax_centres(reduced)
        hidden = nn.relu(self.hidden_layer(reduced.reshape(*reduced.shape[:-3], -1))).astype(jnp.float32)
        sigmas = (nn.relu(self.sigmas(hidden)) + 1.0).reshape(*hidden.shape[:-1], self.num_masks, -1)
        sigmas = jnp.broadcast_to(sigmas, centres.shape)
        return Gaussians(centres=centres, sigmas=sigmas, masks=gaussian_masks(centres, sigmas, size))

    def guide(self, crops: Float[Array, "*n s s _"], masks: Float[Array, "*n m s s"]) -> Float[Array, "*n _ l"]:
        if self.local_channels:
            crops = crops[..., -self.local_channels :]
        if self.guide_into != "all":
            crops = jax.lax.stop_gradient(crops)
        if not self.joint:
            return super().guide(crops, masks)
        masks = masks.astype(crops.dtype)
        highlighted = jnp.einsum("...ijc,...mij->...mc", crops, masks).astype(jnp.float32)
        highlighted /= masks.astype(jnp.float32).sum(axis=(-2, -1))[..., None]
        return self.joint_classes(highlighted.reshape(*highlighted.shape[:-2], -1))[..., None, :]


class SoftmaxCentres(nn.Module):
    """Centres as the mean place of a heat map per mask (a 1x1 convolution and a softmax over the cells), brought into
    eq. 1's range by its tanh. A learned map of places starts the masks apart."""

    num_masks: int

    @nn.compact
    def __call__(self, reduced: Float[Array, "*n s s c"]) -> Float[Array, "*n m 2"]:
        size = reduced.shape[-2]
        cells = (2.0 * np.arange(size) + 1.0) / size - 1.0  # -1 and 1 are the edges of the crop

        def places(key: Array, shape: tuple[int, ...]) -> Float[Array, "s s m"]:
            angles = 2.0 * np.pi * np.arange(self.num_masks) / self.num_masks + np.pi / 4.0
            radius = 0.6 if self.num_masks > 1 else 0.0
            x = (cells[:, None] - radius * np.cos(angles)) ** 2
            y = (cells[:, None] - radius * np.sin(angles)) ** 2
            return jnp.asarray(-(y[:, None] + x[None]) / (2 * 0.4**2), jnp.float32).reshape(shape)

        heat = nn.Dense(self.num_masks, use_bias=False, kernel_init=nn.initializers.normal(0.01), name="heat")(reduced)
        heat = heat.astype(jnp.float32) + self.param("places", places, (size, size, self.num_masks))
        share = jax.nn.softmax(heat.reshape(*heat.shape[:-3], -1, self.num_masks), axis=-2).reshape(heat.shape)
        mean = jnp.stack(
            [jnp.einsum("...ijm,j->...m", share, cells), jnp.einsum("...ijm,i->...m", share, cells)], axis=-1
        )
        scale = self.param("scale", nn.initializers.constant(1.25), (self.num_masks, 2))
        return size / 2 * (1.0 + jnp.tanh(scale * mean))  # eq. 1


class Auxiliary(nn.Module):
    """The guide's classifier on the average of the whole crop, and crops that pass unchanged: the loss without masks.

    What is reported as its one centre is the middle of the crop.
    """

    num_classes: int

    def setup(self) -> None:
        self.guide_classes = nn.Dense(self.num_classes + 1, kernel_init=nn.initializers.normal(0.01))

    def __call__(self, crops: Float[Array, "*n s s c"]) -> Attention:
        *batch, size, _, _ = crops.shape
        middle = jnp.full((*batch, 1, 2), size / 2)
        return Attention(fused=crops, gaussians=Gaussians(middle, middle, jnp.ones((*batch, 1, size, size))))

    def guide(self, crops: Float[Array, "*n s s c"], masks: Float[Array, "*n m s s"]) -> Float[Array, "*n m l"]:
        return self.guide_classes(crops.mean(axis=(-3, -2)).astype(jnp.float32))[..., None, :]


class Averaged(nn.Module):
    """No attention; finer crops are averaged to what the box head reads."""

    @nn.compact
    def __call__(self, crops: Float[Array, "*n s s c"]) -> Attention:
        return Attention(fused=average_to(crops, HEAD_SIZE), gaussians=None)


class LocalFPN(FPN):
    """The library's FPN, and behind each level's channels those of C2, averaged to the level's size.

    C2 is the one stage whose cells see no more than a part of most objects: what is pooled there can name the class
    only where the mask lies on what tells it.
    """

    def __call__(self, features: list[Float[Array, "b _ _ _"]], train: bool) -> list[Float[Array, "b _ _ _"]]:
        pyramid = super().__call__(features, train)
        local, levels = features[0], []
        for level in pyramid:
            levels.append(jnp.concatenate([level, local], axis=-1))
            local = nn.avg_pool(local, (2, 2), strides=(2, 2), padding="SAME")
        return levels


class FirstChannelsRPN(RPNHead):
    """The library's RPN head, which sees nothing of what LocalFPN appends."""

    channels: int = 0

    def __call__(self, pyramid: list[Float[Array, "b _ _ _"]]) -> Any:
        return super().__call__([level[..., : self.channels] for level in pyramid])


def build_row(config: ConfigDict, row: Row, num_classes: int) -> Detector:
    """The detector of a resolved configuration (study_rows.resolve) with the row's attention."""
    detector = build_detector(config.model, num_classes)
    if row.attention == "lga":
        local = row.guide_sees == "c2"
        attention = StudyHead(
            **_fields(detector.attention),
            union=row.fusion == "union",
            joint=row.classifier == "joint",
            guide_into=row.guide_into,
            softmax=row.centres == "softmax",
            overlap_weight=row.overlap_weight,
            local_channels=detector.backbone.width if local else 0,
        )
        if not local:
            return detector.clone(attention=attention)
        fpn, rpn = _fields(detector.fpn), _fields(detector.rpn)
        return detector.clone(
            attention=attention, fpn=LocalFPN(**fpn), rpn=FirstChannelsRPN(**rpn, channels=detector.fpn.channels)
        )
    if row.attention == "auxiliary":
        return detector.clone(attention=Auxiliary(num_classes))
    if row.attention == "none":
        return detector.clone(attention=Averaged())
    return detector


def _fields(module: nn.Module) -> dict[str, Any]:
    names = [name for name in type(module).__dataclass_fields__ if name not in ("parent", "name")]
    return {name: getattr(module, name) for name in names}


def average_to(crops: Float[Array, "*n s s c"], size: int) -> Float[Array, "*n {size} {size} c"]:
    """Crops averaged over blocks of cells; those of that size already, or of no multiple of it, pass unchanged."""
    *batch, side, _, channels = crops.shape
    block = side // size
    if block <= 1:
        return crops
    return crops.reshape(*batch, size, block, size, block, channels).mean(axis=(-4, -2))


def overlap(masks: Float[Array, "*n m s s"]) -> Float[Array, ""]:
    """Mean cosine between the masks of a RoI, over all pairs and RoIs."""
    num_masks = masks.shape[-3]
    if num_masks < 2:
        return jnp.zeros(())
    flat = masks.reshape(*masks.shape[:-2], -1)
    flat /= jnp.linalg.norm(flat, axis=-1, keepdims=True)
    cosines = jnp.einsum("...ip,...jp->...ij", flat, flat)
    return (cosines.sum(axis=(-2, -1)) - num_masks).mean() / (num_masks * (num_masks - 1))


def _with_overlap_gradient(masks: Float[Array, "*n m s s"], weight: float) -> Float[Array, "*n m s s"]:
    """The masks unchanged; going back, the gradient of weight x overlap is added, as if that stood in the loss.

    So the library's training step serves, which knows no such term.
    """

    @jax.custom_vjp
    def pass_on(masks: Array) -> Array:
        return masks

    pass_on.defvjp(
        lambda masks: (masks, masks),
        lambda masks, gradient: (gradient + weight * jax.grad(overlap)(masks),),
    )
    return pass_on(masks)
