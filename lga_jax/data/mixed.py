"""Several sets read as one: classes go by their names, and each set has its weight in an epoch."""

import hashlib
import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from ml_collections import ConfigDict

from lga_jax.data.source import Record, Source, open_source
from lga_jax.errors import UserError, listed

_NUM_NAMED = 5  # classes in a line of the report


class _Part(NamedTuple):
    name: str
    source: Source
    weight: float


class MixedSource:
    """The images of all parts, one part after the other. Image ids are "PART/ID".

    Classes are those of all parts in order of their first appearance, or those of one part; boxes of other classes are
    left out and their images stay. What a part shows without having boxes for it is learnt as background: the report
    names the classes to which this can happen.
    """

    def __init__(self, parts: Mapping[str, Mapping] | ConfigDict, classes: str = "") -> None:
        """Opens all parts. Raises UserError, which names the part, for what is wrong with the data of one of them.

        parts: {name: settings}; settings are those of a config's data.train, and `weight`, how often an epoch sees
            each image of the part. A ConfigDict has its keys, so also the parts, in alphabetical order.
        classes: the part whose classes are learnt; "": the classes of all parts.
        """
        self._parts = [_open(name, **settings) for name, settings in parts.items()]
        learnt = [part for part in self._parts if classes in ("", part.name)]
        self.class_names = tuple(dict.fromkeys(name for part in learnt for name in part.source.class_names))
        self.records = [record for part in self._parts for record in _translate(part, self.class_names)]
        self._ends = np.cumsum([len(part.source.records) for part in self._parts])
        digests = [(part.name, part.weight, part.source.fingerprint) for part in self._parts]
        self.fingerprint = hashlib.sha256(json.dumps([self.class_names, digests]).encode()).hexdigest()
        wanted = sum(record.weight for record in self.records)
        self.report = [line for part in self._parts for line in _describe(part, self.class_names, wanted)]

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB pixels of records[index]."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        source = self._parts[number].source
        return source.image(index - int(self._ends[number]) + len(source.records))

    def coco_json(self) -> dict:
        """Ground truth of all parts for pycocotools; images, annotations and categories have ids of their own."""
        ids = {name: number for number, name in enumerate(self.class_names, start=1)}
        images, annotations = [], []
        for part in self._parts:
            truth = part.source.coco_json()
            category_id = {category["id"]: ids.get(category["name"]) for category in truth["categories"]}
            images += [{**image, "id": _image_id(part, image["id"])} for image in truth["images"]]
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


def _open(name: str, /, *, weight: float, source: str, **settings: object) -> _Part:
    try:
        return _Part(name, open_source(source, **settings), float(weight))
    except UserError as error:
        raise error.within(f"data part {name!r}") from error


def _image_id(part: _Part, image_id: int | str) -> str:
    return f"{part.name}/{image_id}"


def _translate(part: _Part, class_names: tuple[str, ...]) -> list[Record]:
    ours = {name: label for label, name in enumerate(class_names)}
    labels = np.array([ours.get(name, -1) for name in part.source.class_names], np.int32)
    return [_translated(part, record, labels[record.labels]) for record in part.source.records]


def _translated(part: _Part, record: Record, labels: Int[np.ndarray, "n"]) -> Record:
    kept = labels >= 0
    return record._replace(
        image_id=_image_id(part, record.image_id),
        boxes_original=record.boxes_original[kept],
        labels=labels[kept],
        crowd=record.crowd[kept],
        weight=record.weight * part.weight,
    )


def _describe(part: _Part, class_names: tuple[str, ...], wanted: float) -> list[str]:
    records = part.source.records
    share = sum(record.weight for record in records) * part.weight / wanted
    lines = [f"each of its {len(records)} images is seen {part.weight:g} times in an epoch, which is {share:.1%} of it"]
    annotated = {part.source.class_names[label] for record in records for label in set(record.labels.tolist())}
    if left_out := annotated - set(class_names):
        lines.append(f"boxes of {listed(sorted(left_out), _NUM_NAMED)} are left out")
    if missing := set(class_names) - annotated:
        lines.append(
            f"it has no boxes of {listed(sorted(missing), _NUM_NAMED)}: what it shows of them is learnt as background"
        )
    return [f"{part.name}: {line}" for line in (*part.source.report, *lines)]
