"""Losses of boxes that compare areas: 1 - IoU with a penalty. Boxes are (x1, y1, x2, y2) pixels.

GIoU (Rezatofighi et al. 2019) adds the empty share of the smallest box around both. DIoU adds the squared distance of
the centres over the squared diagonal of this box, and CIoU also the difference of the aspect ratios (both Zheng et al.
2020). All have a gradient for boxes that do not overlap. Values do not change when both boxes are scaled. Empty boxes
have finite values and gradients.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lga_jax.ops.boxes import area

_LEAST = 1e-6  # pixels or square pixels, of divisors


def iou_loss(boxes: Float[Array, "*n 4"], wanted: Float[Array, "*n 4"], kind: str) -> Float[Array, "*n"]:
    """The loss of each pair; 0 for equal boxes. `kind`: "giou" (at most 2), "diou" or "ciou"."""
    overlap, union = _overlap_and_union(boxes, wanted)
    iou = overlap / jnp.maximum(union, _LEAST)
    low = jnp.minimum(boxes[..., :2], wanted[..., :2])
    size = jnp.maximum(boxes[..., 2:], wanted[..., 2:]) - low  # of the box around both
    if kind == "giou":
        around = size[..., 0] * size[..., 1]
        return 1.0 - iou + (around - union) / jnp.maximum(around, _LEAST)
    shift = 0.5 * (boxes[..., :2] + boxes[..., 2:] - wanted[..., :2] - wanted[..., 2:])
    loss = 1.0 - iou + jnp.sum(shift**2, axis=-1) / jnp.maximum(jnp.sum(size**2, axis=-1), _LEAST)
    return loss + _aspect_penalty(boxes, wanted, iou) if kind == "ciou" else loss


def _overlap_and_union(boxes: Float[Array, "*n 4"], others: Float[Array, "*n 4"]) -> tuple[Array, Array]:
    size = jnp.minimum(boxes[..., 2:], others[..., 2:]) - jnp.maximum(boxes[..., :2], others[..., :2])
    size = jnp.maximum(size, 0.0)
    overlap = size[..., 0] * size[..., 1]
    return overlap, area(boxes) + area(others) - overlap


def _aspect_penalty(
    boxes: Float[Array, "*n 4"], wanted: Float[Array, "*n 4"], iou: Float[Array, "*n"]
) -> Float[Array, "*n"]:
    """alpha x v of CIoU. As in the paper, no gradient flows through alpha."""
    difference = 4 / math.pi**2 * (_angle(wanted) - _angle(boxes)) ** 2
    alpha = jax.lax.stop_gradient(difference / jnp.maximum(1.0 - iou + difference, _LEAST))
    return alpha * difference


def _angle(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    size = boxes[..., 2:] - boxes[..., :2]
    return jnp.arctan(size[..., 0] / jnp.maximum(size[..., 1], _LEAST))
