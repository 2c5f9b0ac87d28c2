"""Box algebra and the box coder of R-CNN (Girshick et al. 2014, appendix C). Boxes are (x1, y1, x2, y2) pixels."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Upper limit of the size deltas: a 16-px anchor may grow to 1000 px (Detectron).
MAX_LOG_RATIO = math.log(1000.0 / 16.0)


def area(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Area in square pixels; zero for boxes with swapped corners."""
    width = jnp.maximum(boxes[..., 2] - boxes[..., 0], 0.0)
    height = jnp.maximum(boxes[..., 3] - boxes[..., 1], 0.0)
    return width * height


def pairwise_iou(boxes: Float[Array, "n 4"], others: Float[Array, "m 4"]) -> Float[Array, "n m"]:
    """Intersection over union of every pair, in [0, 1]; 0 if both boxes are empty."""
    top_left = jnp.maximum(boxes[:, None, :2], others[None, :, :2])
    bottom_right = jnp.minimum(boxes[:, None, 2:], others[None, :, 2:])
    size = jnp.maximum(bottom_right - top_left, 0.0)
    intersection = size[..., 0] * size[..., 1]
    union = area(boxes)[:, None] + area(others)[None, :] - intersection
    # The divisor needs a guard too: 0/0 has a nan gradient even in the unused branch.
    return jnp.where(union > 0.0, intersection / jnp.where(union > 0.0, union, 1.0), 0.0)


def clip(boxes: Float[Array, "*n 4"], image_hw: Float[Array, "2"]) -> Float[Array, "*n 4"]:
    """Moves corners outside the image onto its border."""
    limit = jnp.stack([image_hw[1], image_hw[0], image_hw[1], image_hw[0]])
    return jnp.clip(boxes, 0.0, limit)


def _centre_size(boxes: Float[Array, "*n 4"]) -> tuple[Array, Array]:
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * size, size


def encode(
    boxes: Float[Array, "*n 4"],
    anchors: Float[Array, "*n 4"],
    weights: tuple[float, float, float, float] | Float[Array, "4"],
) -> Float[Array, "*n 4"]:
    """Deltas (dx, dy, dw, dh) that turn `anchors` into `boxes`, multiplied by `weights`.

    Sides below 1e-3 px count as 1e-3 px, so empty slots have finite deltas.
    """
    centre, size = _centre_size(boxes)
    anchor_centre, anchor_size = _centre_size(anchors)
    anchor_size = jnp.maximum(anchor_size, 1e-3)
    shift = (centre - anchor_centre) / anchor_size
    stretch = jnp.log(jnp.maximum(size, 1e-3) / anchor_size)
    return jnp.concatenate([shift, stretch], axis=-1) * jnp.asarray(weights)


def decode(
    deltas: Float[Array, "*n 4"],
    anchors: Float[Array, "*n 4"],
    weights: tuple[float, float, float, float] | Float[Array, "4"],
) -> Float[Array, "*n 4"]:
    """Inverse of `encode`; size deltas are limited to `MAX_LOG_RATIO`."""
    deltas = deltas.astype(jnp.float32) / jnp.asarray(weights)
    anchor_centre, anchor_size = _centre_size(anchors)
    centre = anchor_centre + deltas[..., :2] * anchor_size
    half = 0.5 * anchor_size * jnp.exp(jnp.minimum(deltas[..., 2:], MAX_LOG_RATIO))
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def smooth_l1(difference: Float[Array, "*n"], beta: float | Float[Array, ""]) -> Float[Array, "*n"]:
    """Smooth L1 loss (Fast R-CNN eq. 3), quadratic below `beta`; with the number 0, the absolute value.

    An array `beta` is above 0.
    """
    magnitude = jnp.abs(difference)
    if not isinstance(beta, jax.Array) and beta == 0.0:
        return magnitude
    return jnp.where(magnitude < beta, 0.5 * magnitude**2 / beta, magnitude - 0.5 * beta)
