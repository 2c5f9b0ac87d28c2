"""The interface of data sources: annotations of all images at once, pixels one image at a time."""

import hashlib
import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from lga_jax.data.object_masks import ObjectMask
from lga_jax.errors import UserError

ImageId = int | str
_NUM_SAMPLED = 100  # images whose masks are counted, which a source may have to read from files


class Record(NamedTuple):
    """The annotations of one image, available without decoding it.

    Every box lies inside the image and has an area; the source leaves out and counts unusable boxes.
    """

    image_id: ImageId
    height: int  # pixels
    width: int  # pixels
    boxes_original: Float[np.ndarray, "n 4"]  # (x1, y1, x2, y2) in pixels of the stored image
    labels: Int[np.ndarray, "n"]  # 0..k-1
    crowd: Bool[np.ndarray, "n"]  # a box around many objects: not trained on, ignored by the evaluation
    weight: float = 1.0  # how often an epoch shows the image
    # Labels of classes without further objects: outside its boxes, the image shows none. None: all classes.
    verified: Int[np.ndarray, "_"] | None = None


class UnusableBoxes(NamedTuple):
    """The boxes of an annotation file that a source leaves out: without an area, or outside their image."""

    where: str  # the file or set
    count: int
    total: int  # boxes of the file
    first: tuple[str, ...]  # names of the first images with such boxes


class Part(NamedTuple):
    """records[start:stop] of a source, one of the sets that it consists of."""

    where: str  # its name; "" for the whole source
    start: int
    stop: int


class MaskCounts(NamedTuple):
    """The object masks of an annotation file. Boxes without a usable mask are kept; mask losses leave them out."""

    where: str  # the file or set
    total: int  # usable boxes, with crowds
    faults: dict[str, int]  # kind of object_masks.MASK_FAULTS -> number of boxes


class UnreadableImageError(UserError):
    """An image that cannot be decoded. Loaders replace it by grey, count it and warn."""


@runtime_checkable
class Source(Protocol):
    """Random access to annotated images: all that training needs. Several threads call `image` at the same time."""

    class_names: tuple[str, ...]
    records: Sequence[Record]

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB pixels of records[index], as stored. Raises UnreadableImageError if they cannot be decoded."""
        ...


@runtime_checkable
class Masked(Source, Protocol):
    """A source with object masks. Only a detector with a mask head asks for them; several threads ask together."""

    def object_masks(self, index: int) -> Sequence[ObjectMask | None]:
        """The mask of each box of records[index], in pixels of the stored image; None for a box without one."""
        ...


@runtime_checkable
class Scored(Source, Protocol):
    """A source with a ground truth of its own for evaluation; for others `truth_of` makes it from the records."""

    def truth(self) -> dict:
        """Ground truth for pycocotools: original image and category ids, boxes in original pixels."""
        ...


def truth_of(source: Source) -> dict:
    """Ground truth for pycocotools: the source's own, or its records with category ids that count from 1."""
    if hasattr(source, "truth"):  # isinstance ignores members that __getattr__ provides, from Python 3.12 on
        return source.truth()
    boxes = [
        (record, box, label, crowd)
        for record in source.records
        for box, label, crowd in zip(record.boxes_original, record.labels.tolist(), record.crowd.tolist(), strict=True)
    ]
    return {
        "info": {},
        "images": [{"id": r.image_id, "height": r.height, "width": r.width} for r in source.records],
        "categories": [{"id": number, "name": name} for number, name in enumerate(source.class_names, start=1)],
        "annotations": [_annotation(number, *entry) for number, entry in enumerate(boxes, start=1)],
    }


def _annotation(number: int, record: Record, box: Float[np.ndarray, "4"], label: int, crowd: bool) -> dict:
    x1, y1, x2, y2 = box.tolist()
    return {
        "id": number,
        "image_id": record.image_id,
        "category_id": label + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": int(crowd),
    }


def report_of(source: Source) -> list[str]:
    """The report lines of the source; none if it has no `report`."""
    return list(getattr(source, "report", ()))


def unusable_boxes_of(source: Source) -> list[UnusableBoxes]:
    """The counts of the source, one for each annotation file; none if it has no `unusable_boxes`."""
    return list(getattr(source, "unusable_boxes", ()))


def parts_of(source: Source) -> list[Part]:
    """The sets of the source; one if it has no `part_ranges`."""
    return list(getattr(source, "part_ranges", ())) or [Part("", 0, len(source.records))]


def object_masks_of(source: Source, index: int) -> Sequence[ObjectMask | None]:
    """The mask of each box of records[index]; all None if the source has no `object_masks`."""
    if hasattr(source, "object_masks"):
        return source.object_masks(index)
    return [None] * len(source.records[index].labels)


def mask_counts_of(source: Source) -> list[MaskCounts]:
    """The counts of the source, one for each annotation file; without `mask_counts`, of a sample of its images."""
    own = getattr(source, "mask_counts", None)
    if own is not None:
        return own()
    num_images = len(source.records)
    chosen = np.unique(np.linspace(0, num_images - 1, min(num_images, _NUM_SAMPLED)).round().astype(int)).tolist()
    masks = [mask for index in chosen for mask in object_masks_of(source, index)]
    missing = sum(mask is None for mask in masks)
    where = "" if len(chosen) == num_images else f"a sample of {len(chosen)} images"
    return [MaskCounts(where, len(masks), {"mask_missing": missing} if missing else {})]


def is_federated(source: Source) -> bool:
    """Whether only some classes are verified in some images."""
    return any(record.verified is not None for record in source.records)


def name_of(source: Source, index: int) -> str:
    """The file name of an image if the source knows it, otherwise its id."""
    names = getattr(source, "file_names", None)
    return str(source.records[index].image_id if names is None else names[index])


def fingerprint_of(source: Source) -> str:
    """Digest of the data, independent of its path: the source's own, or one of class names and records."""
    own = getattr(source, "fingerprint", None)
    if own is not None:
        return own
    sha = hashlib.sha256(repr(source.class_names).encode())
    for record in source.records:
        sha.update(repr((record.image_id, record.height, record.width, record.weight)).encode())
        for array in (record.boxes_original, record.labels, record.crowd):
            sha.update(np.ascontiguousarray(array).tobytes())
        if record.verified is not None:
            sha.update(repr(record.verified.tolist()).encode())
    return sha.hexdigest()


# Names instead of imports: a source may need packages that others do not need.
_SOURCES = {
    "coco_json": ("lga_jax.data.coco.source", "CocoJson"),
    "challenge": ("lga_jax.data.challenge.source", "Challenge"),
    "mixed": ("lga_jax.data.mixed", "MixedSource"),
    "tfds": ("lga_jax.data.tfds.source", "TfdsSource"),
}


def open_source(source: str, **arguments: object) -> Source:
    """Opens the source of data.train or data.eval. `source`: its kind; `arguments`: the settings of this kind."""
    return find_source(source)(**arguments)


def find_source(source: str) -> Callable[..., Source]:
    """The constructor of a kind of source. A checked recipe has a valid kind and valid settings."""
    module, name = _SOURCES[source]
    return getattr(importlib.import_module(module), name)
