"""Copy-paste augmentation after Simple Copy-Paste (Ghiasi et al. 2021), with boxes instead of masks.

Pasted objects keep their place in their own augmented image. Their rectangles are pasted without blending.
`paste_masks` pastes the true pixels of objects, for detectors with a mask head.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8

from lga_jax.data.augment.donor import Donor
from lga_jax.data.augment.geometry import crop_boxes, have_area
from lga_jax.data.augment.view import content_hw, see_boxes, see_image
from lga_jax.data.batches.fill import write_targets
from lga_jax.data.source import Record
from lga_jax.structs import Batch

MIN_VISIBLE = 0.5  # share of a box; objects with less than this visible are dropped


def paste(batch: Batch, row: int, record: Record, image: UInt8[np.ndarray, "h w 3"], donor: Donor, kernel: str) -> int:
    """Pastes the donor's objects over an image in the batch; `record` and `image` are the donor's.

    Boxes of both images shrink to their visible part and are dropped if less than half is visible. So a donor object
    inside another pasted rectangle keeps its box, and a covered object loses its box.

    Returns the number of boxes without a free slot.
    """
    bucket_hw = batch.images.shape[1:3]
    height, width = batch.image_hw[row].astype(int).tolist()
    seen = np.zeros((*content_hw(donor.view, bucket_hw), 3), np.uint8)
    see_image(seen, image, donor.view, kernel)
    boxes = see_boxes(record.boxes_original, (record.height, record.width), donor.view, seen.shape[:2])
    boxes = crop_boxes(boxes, (0, 0), (height, width))
    covered = np.zeros((height, width), bool)
    for box in boxes[donor.pasted & have_area(boxes)]:
        part = touched_pixels(box)
        batch.images[row][part] = seen[part]
        covered[part] = True
    below, new = batch.targets.valid[row], ~record.crowd
    left = _visible(batch.targets.boxes[row][below], ~covered), _visible(boxes[new], covered)
    labels = batch.targets.labels[row][below], record.labels[new]
    return write_targets(batch.targets, row, np.concatenate(left), np.concatenate(labels))


def _visible(boxes: Float[np.ndarray, "n 4"], visible: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "n 4"]:
    """The visible part of each box; no area if too little is visible."""
    left = np.zeros_like(boxes)
    for number in np.flatnonzero(have_area(boxes)):
        rows, columns = part = touched_pixels(boxes[number])
        if visible[part].mean() >= MIN_VISIBLE:
            y, x = (np.flatnonzero(visible[part].any(axis)) for axis in (1, 0))
            left[number, :2] = np.maximum(boxes[number, :2], (columns.start + x[0], rows.start + y[0]))
            left[number, 2:] = np.minimum(boxes[number, 2:], (columns.start + x[-1] + 1, rows.start + y[-1] + 1))
    return left


def touched_pixels(box: Float[np.ndarray, "4"]) -> tuple[slice, slice]:
    """The rows and columns that a box touches."""
    (x1, y1), (x2, y2) = np.floor(box[:2]).astype(int).tolist(), np.ceil(box[2:]).astype(int).tolist()
    return slice(y1, y2), slice(x1, x2)
