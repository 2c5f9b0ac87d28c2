"""Writes an image and its boxes into a row of a batch."""

import math

import numpy as np
from jaxtyping import Float, Int, UInt8

from lga_jax.data.augment.geometry import have_area
from lga_jax.data.augment.view import HW, View, content_hw, see_boxes, see_image
from lga_jax.data.source import Record
from lga_jax.structs import Batch, Targets

_GREY = 128  # pixel value of an image that cannot be decoded


def empty_batch(size: int, bucket_hw: HW, slots: int) -> Batch:
    """An empty numpy batch of `size` images; `write_image` fills its rows.

    An unfilled row is a black image of the size of the bucket, with index -1 and no boxes.
    """
    return Batch(
        images=_aligned_zeros((size, *bucket_hw, 3)),
        image_hw=np.tile(np.array(bucket_hw, np.float32), (size, 1)),
        scale_hw=np.ones((size, 2), np.float32),
        targets=Targets(
            boxes=np.zeros((size, slots, 4), np.float32),
            labels=np.zeros((size, slots), np.int32),
            valid=np.zeros((size, slots), bool),
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
) -> None:
    """Augments an image and its boxes and writes them into a row. `kernel`: resize method, one of geometry.KERNELS.

    If `image` is None, the row is grey, of the same size and without boxes.
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
    boxes = see_boxes(record.boxes_original[~record.crowd], hw, view, seen_hw)
    write_targets(batch.targets, row, boxes, record.labels[~record.crowd])


def write_targets(targets: Targets, row: int, boxes: Float[np.ndarray, "n 4"], labels: Int[np.ndarray, "n"]) -> int:
    """Replaces the boxes of a row with those of `boxes` that have an area; with too few slots, keeps the largest.

    Returns the number of dropped boxes.
    """
    slots = targets.valid.shape[1]
    kept = np.flatnonzero(have_area(boxes))
    num_lost = max(0, len(kept) - slots)
    if num_lost:
        sides = boxes[kept, 2:] - boxes[kept, :2]
        kept = np.sort(kept[np.argsort(-sides.prod(axis=1), kind="stable")[:slots]])
    for leaf in targets:
        if leaf is not None:
            leaf[row] = 0
    targets.boxes[row, : len(kept)] = boxes[kept]
    targets.labels[row, : len(kept)] = labels[kept]
    targets.valid[row, : len(kept)] = True
    return num_lost
