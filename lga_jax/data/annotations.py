"""All boxes of a data set as columns: finds the usable ones and builds the records of the images."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from lga_jax.data.source import ImageId, Record, UnusableBoxes
from lga_jax.errors import printable

_NUM_NAMED = 5


class Columns(NamedTuple):
    """All annotations of a set, one row each."""

    image: Int[np.ndarray, "n"]  # position of the image
    boxes: Float[np.ndarray, "n 4"]  # xyxy in pixels, clipped to the image
    labels: Int[np.ndarray, "n"]
    crowd: Bool[np.ndarray, "n"]
    degenerate: Bool[np.ndarray, "n"]  # no area, nan or infinity
    outside: Bool[np.ndarray, "n"]  # has an area, but outside the image

    @property
    def usable(self) -> Bool[np.ndarray, "n"]:
        return ~(self.degenerate | self.outside)


def make_columns(
    image: Int[np.ndarray, "n"],
    xyxy: Float[np.ndarray, "n 4"],
    labels: Int[np.ndarray, "n"],
    crowd: Bool[np.ndarray, "n"],
    hw: Int[np.ndarray, "m 2"],
) -> Columns:
    """Clips the boxes `xyxy` to their images, whose heights and widths are `hw`, all in pixels."""
    limit = hw[image][:, ::-1]
    with np.errstate(over="ignore", invalid="ignore"):
        x1y1, x2y2 = xyxy[:, :2], xyxy[:, 2:]
        degenerate = ~(np.isfinite(xyxy).all(1) & (x2y2 > x1y1).all(1))
        outside = ~degenerate & ~((x1y1 < limit) & (x2y2 > 0)).all(1)
        boxes = np.concatenate([np.maximum(x1y1, 0), np.minimum(x2y2, limit)], 1).astype(np.float32)
        # A float32 area of zero would cause a division by zero in the box coder.
        degenerate |= ~outside & ~(boxes[:, 2:] > boxes[:, :2]).all(1)
    return Columns(image, boxes, labels.astype(np.int32), crowd, degenerate, outside)


def to_records(
    image_ids: Iterable[ImageId],
    hw: Int[np.ndarray, "m 2"],
    columns: Columns,
    verified: Sequence[Int[np.ndarray, "_"]] | None = None,
) -> list[Record]:
    """One record for each image, with its usable boxes. `verified`: labels for each image; None: all classes are."""
    rows, ends = _by_image(columns, len(hw))
    parts = (np.split(column[rows], ends) for column in (columns.boxes, columns.labels, columns.crowd))
    return [
        Record(image_id, height, width, boxes, labels, crowd, verified=known)
        for image_id, (height, width), boxes, labels, crowd, known in zip(
            image_ids, hw.tolist(), *parts, [None] * len(hw) if verified is None else verified, strict=True
        )
    ]


def rows_of_images(columns: Columns, num_images: int) -> list[Int[np.ndarray, "_"]]:
    """The rows of the usable boxes of each image, in the order of its record."""
    return np.split(*_by_image(columns, num_images))


def _by_image(columns: Columns, num_images: int) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "_"]]:
    """The rows of all usable boxes, image after image, and where each image but the last one ends."""
    rows = np.flatnonzero(columns.usable)
    rows = rows[np.argsort(columns.image[rows], kind="stable")]
    return rows, np.cumsum(np.bincount(columns.image[rows], minlength=num_images))[:-1]


def is_empty(record: Record) -> bool:
    """True for an image without boxes, or with crowd boxes only."""
    return bool(record.crowd.all())


def count_unusable(columns: Columns, where: str, names: Sequence[str]) -> UnusableBoxes:
    """The number of unusable boxes, and the first images that have some. `names`: of all images."""
    images = dict.fromkeys(columns.image[~columns.usable].tolist())
    first = tuple(printable(names[image]) for image in islice(images, _NUM_NAMED))
    return UnusableBoxes(where, int((~columns.usable).sum()), len(columns.usable), first)


def report_counts(records: Sequence[Record], columns: Columns, skip_empty: bool) -> list[str]:
    """Report lines: counts of empty images, crowds and unusable boxes, one line for each kind that occurs."""
    fate = "left out" if skip_empty else "kept as background"
    counts = {
        f"images without boxes to train on: {fate}": sum(map(is_empty, records)),
        "crowd boxes: ignored in training, kept for evaluation": int((columns.crowd & columns.usable).sum()),
        "degenerate boxes (no area, nan or infinity): left out": int(columns.degenerate.sum()),
        "boxes outside their image: left out": int(columns.outside.sum()),
    }
    return [f"{count} {what}" for what, count in counts.items() if count]
