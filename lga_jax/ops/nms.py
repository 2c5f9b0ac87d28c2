"""Non-maximum suppression as a fixed-point iteration.

Greedy suppression is the unique solution of keep[j] = not any(keep[i] and iou[i, j] > threshold for i better than j).
Iterating this equation gives exactly the greedy result at every threshold: box j is final once all boxes that can
suppress it are final. The number of parallel passes is the length of the longest chain of suppressions; the greedy loop
takes one serial step per box.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lga_jax.ops.boxes import pairwise_iou


def nms(
    boxes: Float[Array, "n 4"],
    scores: Float[Array, "n"],
    iou_threshold: float,
    classes: Int[Array, "n"] | None = None,
) -> Bool[Array, "n"]:
    """True for the boxes that greedy suppression keeps: a box with a higher score and the same class removes a box if
    their IoU is above iou_threshold.

    On equal scores the earlier box wins. Boxes with score -inf are not kept and suppress no other box. Class numbers
    are compared directly: the common shift of boxes by class loses precision of the coordinates.
    """
    order = jnp.argsort(-scores, stable=True)
    boxes, scores = boxes[order], scores[order]
    suppresses = jnp.triu(pairwise_iou(boxes, boxes) > iou_threshold, k=1)
    if classes is not None:
        suppresses &= classes[order][:, None] == classes[order][None, :]
    alive = scores > -jnp.inf

    def improve(state: tuple[Array, Array]) -> tuple[Array, Array]:
        keep, _ = state
        updated = alive & ~jnp.any(suppresses & keep[:, None], axis=0)
        return updated, jnp.any(updated != keep)

    keep, _ = jax.lax.while_loop(lambda state: state[1], improve, (alive, jnp.bool_(True)))
    return jnp.zeros_like(keep).at[order].set(keep)
