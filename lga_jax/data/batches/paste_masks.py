"""Copy-paste augmentation after Simple Copy-Paste (Ghiasi et al. 2021), by the masks of the objects.

Pasted objects keep their place in their own augmented image. Their pixels are pasted without blending. An object
without a usable mask is pasted, and hides others, with its whole box.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from lga_jax.data.augment.donor import Donor
from lga_jax.data.augment.geometry import crop_boxes, have_area
from lga_jax.data.augment.view import HW, View, content_hw, see_boxes, see_image
from lga_jax.data.batches.fill import SeenMask, see_masks, write_targets
from lga_jax.data.batches.paste import MIN_VISIBLE, touched_pixels
from lga_jax.data.object_masks import AS_STORED, FULL, Bitmap, ObjectMask, cover
from lga_jax.data.source import Record
from lga_jax.structs import Batch


class Below(NamedTuple):
    """The image of the batch that objects are pasted into."""

    record: Record
    view: View
    masks: Sequence[ObjectMask | None]


class _Objects(NamedTuple):
    """The boxes of an image after its augmentation, clipped to the content of the batch."""

    boxes: Float[np.ndarray, "n 4"]
    labels: Int[np.ndarray, "n"]
    masks: list[SeenMask | None]


_NOTHING = _Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.int32), [])


def paste_masks(
    batch: Batch,
    row: int,
    below: Below | None,
    record: Record,
    masks: Sequence[ObjectMask | None],
    image: UInt8[np.ndarray, "h w 3"],
    donor: Donor,
    kernel: str,
) -> int:
    """Pastes the donor's objects over an image in the batch; `record`, `masks` and `image` are the donor's.

    below: None for an image that cannot be decoded, which has no objects.

    Masks of both images lose their hidden pixels, and their boxes shrink with them; an object with less than half of
    its pixels visible is dropped.

    Returns the number of boxes without a free slot.
    """
    bucket_hw = batch.images.shape[1:3]
    height, width = content = tuple(batch.image_hw[row].astype(int).tolist())
    seen = np.zeros((*content_hw(donor.view, bucket_hw), 3), np.uint8)
    see_image(seen, image, donor.view, kernel)
    old = _see(*below, content_hw(below.view, bucket_hw), content) if below else _NOTHING
    new = _see(record, donor.view, masks, seen.shape[:2], content)
    covered = np.zeros((height, width), bool)
    for one in np.flatnonzero(donor.pasted[~record.crowd] & have_area(new.boxes)).tolist():
        part = touched_pixels(new.boxes[one])
        pixels = _pixels(new.boxes[one], new.masks[one])
        cv2.copyTo(seen[part], pixels.view(np.uint8), dst=batch.images[row][part])
        covered[part] |= pixels
    left = [_visible(old, ~covered), _visible(new, covered)]
    boxes, labels = (np.concatenate([getattr(some, name) for some in left]) for name in ("boxes", "labels"))
    return write_targets(batch.targets, row, boxes, labels, left[0].masks + left[1].masks)


def _see(record: Record, view: View, masks: Sequence[ObjectMask | None], seen_hw: HW, content: HW) -> _Objects:
    """The objects of an image, without crowds."""
    trained, hw = np.flatnonzero(~record.crowd), (record.height, record.width)
    boxes = crop_boxes(see_boxes(record.boxes_original[trained], hw, view, seen_hw), (0, 0), content)
    return _Objects(boxes, record.labels[trained], see_masks(masks, trained, hw, view, seen_hw))


def _visible(objects: _Objects, visible: Bool[np.ndarray, "h w"]) -> _Objects:
    """What is visible of each object; no area if it is too little."""
    boxes, masks = np.zeros_like(objects.boxes), list(objects.masks)
    for one in np.flatnonzero(have_area(objects.boxes)).tolist():
        rows, columns = part = touched_pixels(objects.boxes[one])
        if visible[part].all():
            boxes[one] = objects.boxes[one]
        if visible[part].all() or not visible[part].any():
            continue
        pixels = _pixels(objects.boxes[one], objects.masks[one])
        left = pixels & visible[part]
        if left.sum() == pixels.sum():
            boxes[one] = objects.boxes[one]
        elif left.sum() >= MIN_VISIBLE * pixels.sum():
            y, x = (np.flatnonzero(left.any(axis)) for axis in (1, 0))
            boxes[one, :2] = np.maximum(objects.boxes[one, :2], (columns.start + x[0], rows.start + y[0]))
            boxes[one, 2:] = np.minimum(objects.boxes[one, 2:], (columns.start + x[-1] + 1, rows.start + y[-1] + 1))
            if masks[one] is not None:
                masks[one] = SeenMask(Bitmap(left, (columns.start, rows.start)), AS_STORED)
    return _Objects(boxes, objects.labels, masks)


def _pixels(box: Float[np.ndarray, "4"], seen: SeenMask | None) -> Bool[np.ndarray, "h w"]:
    """The pixels of an object among those that its box touches; all of them without a mask."""
    rows, columns = touched_pixels(box)
    hw = rows.stop - rows.start, columns.stop - columns.start
    if seen is None:
        return np.ones(hw, bool)
    placement = seen.placement.then(offset=(-columns.start, -rows.start))
    pixels = cover(seen.mask, placement, hw, fine=1) > FULL // 2
    return pixels if pixels.any() else np.ones(hw, bool)
