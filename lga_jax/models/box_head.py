"""Second stage: RoI sampling and the head that classifies and refines each RoI (Fast R-CNN)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from lga_jax.models.layers import xavier_caffe2
from lga_jax.ops.matching import match
from lga_jax.ops.sampling import sample_balanced
from lga_jax.structs import RoIs, RoITargets, Targets

CODER_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


class BoxHead(nn.Module):
    """Two hidden layers, then k + 1 class logits (background last) and box deltas for each foreground class."""

    hidden: int
    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, crops: Float[Array, "*n s s c"]) -> tuple[Float[Array, "*n l"], Float[Array, "*n k 4"]]:
        x = crops.reshape(*crops.shape[:-3], -1)
        for name in ("fc1", "fc2"):
            x = nn.relu(nn.Dense(self.hidden, kernel_init=xavier_caffe2, dtype=self.dtype, name=name)(x))
        logits = nn.Dense(
            self.num_classes + 1, kernel_init=nn.initializers.normal(0.01), dtype=self.dtype, name="classes"
        )(x)
        deltas = nn.Dense(
            4 * self.num_classes, kernel_init=nn.initializers.normal(0.001), dtype=self.dtype, name="deltas"
        )(x)
        deltas = deltas.reshape(*deltas.shape[:-1], self.num_classes, 4)
        return logits.astype(jnp.float32), deltas.astype(jnp.float32)


def sample_rois(
    key: Key[Array, ""],
    proposals: RoIs,
    targets: Targets,
    num_classes: int,
    *,
    num_samples: int,
    positive_fraction: float,
    positive_iou: float,
) -> tuple[RoIs, RoITargets]:
    """RoIs of one image to train on, and their targets. Ground-truth boxes join the proposals, so that every object
    has at least one positive RoI from the first step on."""
    boxes = jnp.concatenate([proposals.boxes, targets.boxes])
    scores = jnp.concatenate([proposals.scores, jnp.zeros(targets.boxes.shape[0])])
    valid = jnp.concatenate([proposals.valid, targets.valid])
    found = match(
        boxes,
        targets.boxes,
        targets.valid,
        positive_iou=positive_iou,
        negative_iou=positive_iou,
        low_quality=False,
    )
    samples = sample_balanced(
        key,
        found.positive & valid,
        found.negative & valid,
        found.matched,
        num_samples=num_samples,
        positive_fraction=positive_fraction,
    )
    rois = RoIs(
        boxes=jnp.where(samples.valid[:, None], boxes[samples.index], 0.0),
        scores=jnp.where(samples.valid, scores[samples.index], 0.0),
        valid=samples.valid,
    )
    labels = jnp.where(samples.positive, targets.labels[samples.matched], num_classes)
    return rois, RoITargets(labels=labels, boxes=targets.boxes[samples.matched], valid=samples.valid)
