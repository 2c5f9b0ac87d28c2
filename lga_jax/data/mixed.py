"""Several data sets as one: classes are merged by name, and each set has a weight in the epoch."""

import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from ml_collections import ConfigDict

from lga_jax.data.federated import LISTS, NEGATIVE, NOT_EXHAUSTIVE
from lga_jax.data.object_masks import ObjectMask
from lga_jax.data.source import (
    MaskCounts,
    Part,
    Record,
    Source,
    is_federated,
    mask_counts_of,
    object_masks_of,
    open_source,
    parts_of,
    unusable_boxes_of,
)
from lga_jax.errors import UserError, listed, shown

_NUM_NAMED = 5  # classes in a line of the report


class _Part(NamedTuple):
    name: str
    source: Source
    weight: float


class MixedSource:
    """The images of all parts, one part after the other. Image ids are "PART/ID".

    Classes are those of all parts in the order of first appearance, or those of one part; boxes of other classes are
    left out, their images are kept. If a part has no boxes of a class, objects of this class in its images are trained
    as background; the report names such classes. A part with lists of verified classes, as LVIS, keeps them; other
    parts have all classes verified.
    """

    def __init__(self, parts: Mapping[str, Mapping] | ConfigDict, classes: str = "") -> None:
        """Opens all parts. Raises UserError with the name of the part if its data are faulty.

        parts: {name: settings}; settings are those of data.train and `weight`, the number of times that an epoch shows
            each image of the part. The keys of a ConfigDict, and so the parts, are in alphabetical order.
        classes: name of the part with the classes to train; "": the classes of all parts.
        """
        self._parts = [_open(name, **settings) for name, settings in parts.items()]
        trained = [part for part in self._parts if classes in ("", part.name)]
        self.class_names = tuple(dict.fromkeys(name for part in trained for name in part.source.class_names))
        self.records = [record for part in self._parts for record in _translate(part, self.class_names)]
        self._ends = np.cumsum([len(part.source.records) for part in self._parts])
        self.part_ranges = [
            inner for part, end in zip(self._parts, self._ends.tolist(), strict=True) for inner in _ranges(part, end)
        ]
        digests = [(part.name, part.weight, part.source.fingerprint) for part in self._parts]
        self.fingerprint = hashlib.sha256(json.dumps([self.class_names, digests]).encode()).hexdigest()
        self.unusable_boxes = [
            boxes._replace(where=f"data part {part.name!r}: {boxes.where}")
            for part in self._parts
            for boxes in unusable_boxes_of(part.source)
        ]
        wanted = sum(record.weight for record in self.records)
        self.report = [line for part in self._parts for line in _describe(part, self.class_names, wanted)]

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB pixels of records[index]."""
        part, number = self._place(index)
        return part.source.image(number)

    def object_masks(self, index: int) -> Sequence[ObjectMask | None]:
        """The mask of each box of records[index]; all None for a part without masks."""
        part, number = self._place(index)
        masks = object_masks_of(part.source, number)
        names = part.source.class_names
        labels = part.source.records[number].labels.tolist()
        return [mask for mask, label in zip(masks, labels, strict=True) if names[label] in self.class_names]

    def mask_counts(self) -> list[MaskCounts]:
        """The counts of all parts, with their boxes of other classes."""
        return [
            counts._replace(where=f"data part {part.name!r}: {counts.where}")
            for part in self._parts
            for counts in mask_counts_of(part.source)
        ]

    def truth(self) -> dict:
        """Ground truth of all parts for pycocotools; images, annotations and categories get new ids."""
        ids = {name: number for number, name in enumerate(self.class_names, start=1)}
        images, annotations, federated = [], [], is_federated(self)
        for part in self._parts:
            truth = part.source.truth()
            category_id = {category["id"]: ids.get(category["name"]) for category in truth["categories"]}
            lists = partial(_lists, category_id=category_id) if federated else lambda _: {}
            images += [{**image, "id": _image_id(part, image["id"]), **lists(image)} for image in truth["images"]]
            annotations += [
                {**annotation, "image_id": _image_id(part, annotation["image_id"]), "category_id": category}
                for annotation in truth["annotations"]
                if (category := category_id[annotation["category_id"]]) is not None
            ]
        return {
            "info": {},
            "images": images,
            "categories": [{"id": number, "name": name} for name, number in ids.items()],
            "annotations": [{**annotation, "id": number} for number, annotation in enumerate(annotations, start=1)],
        }

    def _place(self, index: int) -> tuple[_Part, int]:
        """The part with records[index], and its position in the part."""
        part = self._parts[number := int(np.searchsorted(self._ends, index, side="right"))]
        return part, index - int(self._ends[number]) + len(part.source.records)


def _ranges(part: _Part, end: int) -> list[Part]:
    """Where the images of a part are among those of all parts. A part can be mixed itself."""
    start = end - len(part.source.records)
    name = f"data part {part.name!r}"
    return [
        Part(": ".join(filter(None, (name, inner.where))), start + inner.start, start + inner.stop)
        for inner in parts_of(part.source)
    ]


def _open(name: str, /, *, weight: float, source: str, **settings: object) -> _Part:
    try:
        return _Part(name, open_source(source, **settings), float(weight))
    except UserError as error:
        raise error.within(f"data part {name!r}") from error


def _lists(image: Mapping, category_id: Mapping[int, int | None]) -> dict[str, list[int]]:
    """LVIS's lists of an image with the ids of the mixture. Without them, all classes of its part are verified."""
    if NEGATIVE not in image:
        image = {NEGATIVE: list(category_id), NOT_EXHAUSTIVE: []}
    return {key: [new for old in image[key] if (new := category_id[old]) is not None] for key in LISTS}


def _image_id(part: _Part, image_id: int | str) -> str:
    return f"{part.name}/{image_id}"


def _translate(part: _Part, class_names: tuple[str, ...]) -> list[Record]:
    ours = {name: label for label, name in enumerate(class_names)}
    labels = np.array([ours.get(name, -1) for name in part.source.class_names], np.int32)
    return [_translated(part, record, labels) for record in part.source.records]


def _translated(part: _Part, record: Record, ours: Int[np.ndarray, "k"]) -> Record:
    """A record with the labels of the mixture. `ours`: for each label of the part; -1: left out."""
    labels, verified = ours[record.labels], record.verified
    kept = labels >= 0
    return record._replace(
        image_id=_image_id(part, record.image_id),
        boxes_original=record.boxes_original[kept],
        labels=labels[kept],
        crowd=record.crowd[kept],
        weight=record.weight * part.weight,
        verified=verified if verified is None else ours[verified][ours[verified] >= 0],
    )


def _describe(part: _Part, class_names: tuple[str, ...], wanted: float) -> list[str]:
    records = part.source.records
    share = sum(record.weight for record in records) * part.weight / wanted
    lines = [f"each of its {len(records)} images is shown {part.weight:g} times in an epoch: {share:.1%} of the epoch"]
    annotated = {part.source.class_names[label] for record in records for label in set(record.labels.tolist())}
    if left_out := annotated - set(class_names):
        lines.append(f"boxes of {_quoted(left_out)} are left out")
    if missing := set(class_names) - annotated:
        lines.append(f"it has no boxes of {_quoted(missing)}: such objects in its images are trained as background")
    return [f"{part.name}: {line}" for line in (*part.source.report, *lines)]


def _quoted(names: Set[str]) -> str:
    return listed([shown(name) for name in sorted(names)], _NUM_NAMED)
