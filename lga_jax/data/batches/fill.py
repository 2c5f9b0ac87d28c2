"""Writes an image and its boxes into a row of a batch."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from lga_jax.data.augment.geometry import have_area
from lga_jax.data.augment.transform import Transform, apply_transform
from lga_jax.data.augment.view import HW, View, content_hw, see_boxes, see_image, see_points
from lga_jax.data.object_masks import ObjectMask, Placement, cover
from lga_jax.data.source import Record
from lga_jax.structs import Batch, Targets

MASK_SIDE = 112  # cells per axis of an object mask: four for each cell of a mask head of 28 x 28
_GREY = 128  # pixel value of an image that cannot be decoded


class SeenMask(NamedTuple):
    """An object mask, and where it is seen after the augmentation."""

    mask: ObjectMask
    placement: Placement


def empty_batch(size: int, bucket_hw: HW, slots: int, mask_side: int = 0, num_listed: int = 0) -> Batch:
    """An empty numpy batch of `size` images; `write_image` fills its rows.

    An unfilled row is a black image of the size of the bucket, with index -1 and no boxes.
    mask_side: cells per axis of the object masks; 0: no masks.
    num_listed: the number of classes if `verified` names those of each image; 0: all are verified.
    """
    return Batch(
        images=_aligned_zeros((size, *bucket_hw, 3)),
        image_hw=np.tile(np.array(bucket_hw, np.float32), (size, 1)),
        scale_hw=np.ones((size, 2), np.float32),
        targets=Targets(
            boxes=np.zeros((size, slots, 4), np.float32),
            labels=np.zeros((size, slots), np.int32),
            valid=np.zeros((size, slots), bool),
            masks=np.zeros((size, slots, mask_side, mask_side), np.uint8) if mask_side else None,
            has_mask=np.zeros((size, slots), bool) if mask_side else None,
            verified=np.zeros((size, num_listed), bool) if num_listed else None,
        ),
        index=np.full(size, -1, np.int32),
    )


def _aligned_zeros(shape: tuple[int, ...]) -> UInt8[np.ndarray, "..."]:
    """Zeros aligned to 64 bytes: JAX's CPU device uses aligned memory without a copy."""
    size = math.prod(shape)
    memory = np.zeros(size + 63, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].reshape(shape)


def write_image(
    batch: Batch,
    row: int,
    index: int,
    record: Record,
    image: UInt8[np.ndarray, "h w 3"] | None,
    view: View,
    kernel: str,
    masks: Sequence[ObjectMask | None] | None = None,
) -> None:
    """Augments an image and its boxes and writes them into a row. `kernel`: resize method, one of geometry.KERNELS.

    If `image` is None, the row is grey, of the same size, without boxes and verified classes. `masks`: of each box of
    the record.
    """
    height, width = seen_hw = content_hw(view, batch.images.shape[1:3])
    hw = record.height, record.width
    batch.image_hw[row], batch.index[row] = seen_hw, index
    batch.scale_hw[row] = np.divide(view.resized_hw, view.source_hw(hw))
    content = batch.images[row, :height, :width]
    if image is None:
        content[:] = _GREY
        return
    see_image(content, image, view, kernel)
    if batch.targets.verified is not None:
        batch.targets.verified[row, slice(None) if record.verified is None else record.verified] = True
    trained = np.flatnonzero(~record.crowd)
    boxes = see_boxes(record.boxes_original[trained], hw, view, seen_hw)
    write_targets(batch.targets, row, boxes, record.labels[trained], see_masks(masks, trained, hw, view, seen_hw))


def see_masks(
    masks: Sequence[ObjectMask | None] | None, chosen: Int[np.ndarray, "n"], hw: HW, view: View, seen_hw: HW
) -> list[SeenMask | None] | None:
    """The chosen masks of an image of size `hw` after the augmentation; None without masks."""
    if masks is None:
        return None
    placement = see_points(hw, view, seen_hw)
    return [None if masks[one] is None else SeenMask(masks[one], placement) for one in chosen.tolist()]


def transform_row(
    batch: Batch, row: int, transform: Transform, rng: np.random.Generator, num_classes: int, name: str
) -> int:
    """Replaces image and boxes of a row by what the user's transform makes of them. Returns the number of lost boxes.

    Lost are boxes without a free slot. `name`: of the image, for errors. Raises UserError for a faulty result.
    """
    height, width = batch.image_hw[row].astype(int).tolist()
    content, valid = batch.images[row, :height, :width], batch.targets.valid[row]
    sample = content, batch.targets.boxes[row][valid], batch.targets.labels[row][valid]
    content[:], boxes, labels = apply_transform(transform, sample, rng, num_classes, name)
    return write_targets(batch.targets, row, boxes, labels)


def write_targets(
    targets: Targets,
    row: int,
    boxes: Float[np.ndarray, "n 4"],
    labels: Int[np.ndarray, "n"],
    masks: Sequence[SeenMask | None] | None = None,
) -> int:
    """Replaces the boxes of a row with those of `boxes` that have an area; with too few slots, keeps the largest.

    Returns the number of dropped boxes.
    """
    slots = targets.valid.shape[1]
    kept = np.flatnonzero(have_area(boxes))
    num_lost = max(0, len(kept) - slots)
    if num_lost:
        sides = boxes[kept, 2:] - boxes[kept, :2]
        kept = np.sort(kept[np.argsort(-sides.prod(axis=1), kind="stable")[:slots]])
    for leaf in targets._replace(verified=None):
        if leaf is not None:
            leaf[row] = 0
    targets.boxes[row, : len(kept)] = boxes[kept]
    targets.labels[row, : len(kept)] = labels[kept]
    targets.valid[row, : len(kept)] = True
    if masks is not None:
        _write_masks(targets, row, boxes[kept], [masks[one] for one in kept.tolist()])
    return num_lost


def _write_masks(targets: Targets, row: int, boxes: Float[np.ndarray, "n 4"], masks: Sequence[SeenMask | None]) -> None:
    """Resamples each mask to the cells of its box. A mask that is not seen in its box is no mask."""
    cells_hw = targets.masks.shape[2:]
    for slot, (box, seen) in enumerate(zip(boxes, masks, strict=True)):
        if seen is not None:
            targets.masks[row, slot] = cover(seen.mask, seen.placement.within(box, cells_hw), cells_hw)
            targets.has_mask[row, slot] = targets.masks[row, slot].any()
