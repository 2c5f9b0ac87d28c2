"""Non-maximum suppression as the fixed point of "keep what no kept better box overlaps".

Greedy suppression is the unique solution of keep[j] = not any(keep[i] and iou[i, j] > threshold for i better than j).
Iterating that equation settles box j once all boxes that can reach it have settled, hence gives exactly the greedy
answer at every threshold, in as many parallel passes as the longest chain of suppressions, where the greedy loop
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
    """Which boxes greedy suppression keeps: a better box of the same class with IoU > iou_threshold removes a box.

    Ties in the score go to the earlier box. Boxes with score -inf are neither kept nor suppress others. Classes are
    compared as such: shifting boxes apart by class, as is common, loses bits of their coordinates.
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
