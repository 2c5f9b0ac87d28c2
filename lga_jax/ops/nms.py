"""Exact greedy non-maximum suppression, in a form that is fast on the current platform.

A CPU iterates the equation keep[j] = not any(keep[i] and iou[i, j] > threshold for i better than j), whose unique
solution is the greedy result: box j is final once all boxes that can suppress it are final. The number of parallel
passes is the length of the longest chain of suppressions. Other platforms decide a block of boxes after the other, with
bits in words instead of a matrix of bytes. The number of blocks is fixed, so no device asks its host how to go on.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from lga_jax.ops.boxes import area, pairwise_iou

_WORD = 32  # boxes per word
_BLOCK = 4 * _WORD  # boxes decided at a time
_ALL = np.uint32(0xFFFFFFFF)


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
    keep = jax.lax.platform_dependent(
        boxes[order],
        scores[order] > -jnp.inf,
        None if classes is None else classes[order],
        cpu=partial(_by_passes, iou_threshold),
        default=partial(_by_blocks, iou_threshold),
    )
    return jnp.zeros_like(keep).at[order].set(keep)


def _by_passes(
    iou_threshold: float, boxes: Float[Array, "n 4"], alive: Bool[Array, "n"], classes: Int[Array, "n"] | None
) -> Bool[Array, "n"]:
    """NMS of boxes in order, best first."""
    suppresses = jnp.triu(pairwise_iou(boxes, boxes) > iou_threshold, k=1)
    if classes is not None:
        suppresses &= classes[:, None] == classes[None, :]

    def improve(state: tuple[Array, Array]) -> tuple[Array, Array]:
        keep, _ = state
        updated = alive & ~jnp.any(suppresses & keep[:, None], axis=0)
        return updated, jnp.any(updated != keep)

    keep, _ = jax.lax.while_loop(lambda state: state[1], improve, (alive, jnp.bool_(True)))
    return keep


def _by_blocks(
    iou_threshold: float, boxes: Float[Array, "n 4"], alive: Bool[Array, "n"], classes: Int[Array, "n"] | None
) -> Bool[Array, "n"]:
    """NMS of boxes in order, best first."""
    num_boxes = boxes.shape[0]
    padding = -num_boxes % _BLOCK
    boxes, alive, classes = jax.tree.map(
        lambda leaf: jnp.pad(leaf, ((0, padding), *[(0, 0)] * (leaf.ndim - 1))), (boxes, alive, classes)
    )
    spared = _spared(iou_threshold, boxes, classes)
    words_per_block = _BLOCK // _WORD
    # With negative indices, finding the place of a block would be a kernel of its own.
    part = partial(jax.lax.dynamic_slice_in_dim, allow_negative_indices=False)

    def decide(block: Int[Array, ""], undecided: UInt32[Array, "w"]) -> UInt32[Array, "w"]:
        rows = part(spared, block * _BLOCK, _BLOCK, axis=1)
        own = part(undecided, block * words_per_block, words_per_block)
        kept = _greedy(own, part(rows, block * words_per_block, words_per_block))
        spared_by = [
            spares | _dropped(word, jnp.arange(_WORD, dtype=jnp.uint32))
            for spares, word in zip(jnp.split(rows, words_per_block, axis=1), kept, strict=True)
        ]
        # One kernel joins the rows of the kept boxes and what was undecided before.
        return jax.lax.reduce(jnp.c_[*spared_by, undecided], _ALL, jax.lax.bitwise_and, (1,))

    # A pass writes what the next one reads: two passes at a time need no copy of it.
    keep = jax.lax.fori_loop(0, boxes.shape[0] // _BLOCK, decide, _pack(alive[:, None])[:, 0], unroll=2)
    return _unpack(keep)[:num_boxes]


def _spared(iou_threshold: float, boxes: Float[Array, "n 4"], classes: Int[Array, "n"] | None) -> UInt32[Array, "w n"]:
    """Bit b of element (w, i): whether box i, if kept, spares box 32 w + b. The IoUs are not stored."""
    x1, y1, x2, y2 = (boxes[:, i] for i in range(4))
    width = jnp.minimum(x2[:, None], x2) - jnp.maximum(x1[:, None], x1)
    height = jnp.minimum(y2[:, None], y2) - jnp.maximum(y1[:, None], y1)
    intersection = jnp.maximum(width, 0.0) * jnp.maximum(height, 0.0)
    areas = area(boxes)
    union = areas[:, None] + areas - intersection
    iou = jnp.where(union > 0.0, intersection / jnp.where(union > 0.0, union, 1.0), 0.0)
    place = jnp.arange(boxes.shape[0])
    suppressed = (place[:, None] > place) & (iou > iou_threshold)
    if classes is not None:
        suppressed &= classes[:, None] == classes
    return jax.lax.optimization_barrier(_pack(~suppressed))


def _greedy(undecided: UInt32[Array, "w"], rows: UInt32[Array, "w n"]) -> list[UInt32[Array, ""]]:
    """The kept boxes of a block as words, decided one after the other in registers."""
    words = list(undecided)
    for box in range(rows.shape[1]):
        first = box // _WORD
        dropped = _dropped(words[first], jnp.uint32(box % _WORD))
        for later in range(first, len(words)):
            words[later] &= rows[later, box] | dropped
    # Without the barrier a GPU repeats the whole chain for every word that reads its result.
    return jax.lax.optimization_barrier(words)


def _dropped(word: UInt32[Array, ""], place: UInt32[Array, "*n"]) -> UInt32[Array, "*n"]:
    """All bits if the bit at the place is 0, otherwise none."""
    return (word >> place & np.uint32(1)) - np.uint32(1)


def _pack(bits: Bool[Array, "n m"]) -> UInt32[Array, "w m"]:
    """32 rows in a row of words, the first one in the lowest bit."""
    values = jnp.left_shift(jnp.uint32(1), jnp.arange(_WORD, dtype=jnp.uint32))[:, None]
    return jnp.sum(jnp.where(bits.reshape(-1, _WORD, bits.shape[1]), values, 0), axis=1, dtype=jnp.uint32)


def _unpack(words: UInt32[Array, "w"]) -> Bool[Array, "n"]:
    shifts = jnp.arange(_WORD, dtype=jnp.uint32)
    return (jnp.right_shift(words[:, None], shifts) & 1 != 0).reshape(-1)
