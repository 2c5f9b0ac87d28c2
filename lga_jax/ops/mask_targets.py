"""The true masks of objects inside other boxes: the targets of a mask head (Mask R-CNN, section 3)."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

# Sample points per target cell and axis. A RoI has at most twice the sides of its object, so points are at most
# two cells of the stored mask apart.
_POINTS = 4
_SMALLEST = 1e-3  # pixels; guards the division by the side of an empty box


def mask_targets(
    masks: UInt8[Array, "g q q"],
    truth: Float[Array, "g 4"],
    boxes: Float[Array, "r 4"],
    matched: Int[Array, "r"],
    *,
    mask_size: int,
    aligned: bool,
) -> Float[Array, "r {mask_size} {mask_size}"]:
    """The mask of object `matched` in each box, 0..1: RoIAlign of the mask, which is 0 outside the object's box.

    A cell is the mean of 4 x 4 points, and a point is bilinear in the stored cells. RoIAlign is separable here: it is
    two matrix products.

    Args:
        masks: covered share of each cell of the object's box, 0..255.
        truth: the boxes of the objects.
        boxes: the boxes to fill.
        matched: the object of each box.
        mask_size: cells per side of the result.
        aligned: as in RoIAlign, for a feature map with one cell per pixel. False reads half a pixel further right and
            below, as torchvision does.
    """
    objects = truth[matched]
    x, y = (_weights(boxes[:, a::2], objects[:, a::2], masks.shape[-1], mask_size, aligned) for a in (0, 1))
    rows = jnp.einsum("rpi,rij->rpj", y, masks[matched].astype(jnp.float32) / 255.0)
    return jnp.einsum("rpj,rqj->rpq", rows, x)


def _weights(
    spans: Float[Array, "r 2"], objects: Float[Array, "r 2"], num_stored: int, num_cells: int, aligned: bool
) -> Float[Array, "r {num_cells} {num_stored}"]:
    """Along one axis: the weight of each stored cell in each cell of the box. `spans`: its start and end in pixels."""
    shares = (jnp.arange(num_cells * _POINTS) + 0.5) / (num_cells * _POINTS)
    places = spans[:, :1] + (spans[:, 1:] - spans[:, :1]) * shares + (0.0 if aligned else 0.5)
    sides = jnp.maximum(objects[:, 1:] - objects[:, :1], _SMALLEST)
    cells = (places - objects[:, :1]) / sides * num_stored - 0.5
    tents = jnp.maximum(0.0, 1.0 - jnp.abs(cells[..., None] - jnp.arange(num_stored)))
    return tents.reshape(-1, num_cells, _POINTS, num_stored).mean(axis=2)
