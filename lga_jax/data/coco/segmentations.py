"""The object masks of a COCO annotation file. Only detectors with a mask head read them."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, TypedDict

import msgspec
import numpy as np
from jaxtyping import Int

from lga_jax.data.annotations import Columns
from lga_jax.data.object_masks import ObjectMask, parse_mask


class _Annotation(TypedDict, total=False):
    segmentation: msgspec.Raw


class _Content(TypedDict, total=False):
    annotations: list[_Annotation]


def read_masks(
    data: bytes, positions: Iterable[int], columns: Columns, hw: Int[np.ndarray, "m 2"]
) -> list[ObjectMask | str]:
    """The object mask of each box of `columns`, or a kind of object_masks.MASK_FAULTS.

    Args:
        data: the annotation file, valid JSON.
        positions: of the annotations of `columns` in the file.
        columns: boxes of the file. Masks of unusable ones are not read: "mask_missing".
        hw: size of the images.
    """
    entries, sizes = _segmentations(data), [(height, width) for height, width in hw.tolist()]
    rows = zip(positions, columns.usable.tolist(), columns.image.tolist(), columns.boxes, strict=True)
    return [
        parse_mask(_plain(entries[position].get("segmentation")) if usable else None, sizes[image], box)
        for position, usable, image, box in rows
    ]


def count_faults(masks: list[ObjectMask | str]) -> dict[str, int]:
    """Kind of fault -> number of masks with it, most frequent first."""
    return dict(Counter(mask for mask in masks if isinstance(mask, str)).most_common())


def _segmentations(data: bytes) -> list[dict[str, Any]]:
    """The annotations of the file. A segmentation stays text until it is used: as lists, COCO's need gigabytes."""
    try:
        return msgspec.json.decode(data, type=_Content)["annotations"]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json.loads(data)["annotations"]  # with NaN, Infinity or UTF-16, which Python's parser accepts


def _plain(segmentation: Any) -> Any:
    return msgspec.json.decode(segmentation) if isinstance(segmentation, msgspec.Raw) else segmentation
