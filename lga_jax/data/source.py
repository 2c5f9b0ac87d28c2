"""What every source of images gives, whatever it reads from: metadata of all images at once, pixels one by one."""

import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from lga_jax.errors import UserError

ImageId = int | str


class Record(NamedTuple):
    """The annotations of one image, known without decoding it.

    Every box lies inside the image and has an area; boxes that cannot be used were left out and counted by the source.
    """

    image_id: ImageId
    height: int  # pixels
    width: int  # pixels
    boxes_original: Float[np.ndarray, "n 4"]  # (x1, y1, x2, y2) in pixels of the image as stored
    labels: Int[np.ndarray, "n"]  # 0..k-1
    crowd: Bool[np.ndarray, "n"]  # a box around many objects: not trained on, ignored by the evaluation
    weight: float = 1.0  # how often an epoch of training sees the image


class UnreadableImageError(UserError):
    """An image of which nothing can be decoded. Loaders survive it, count it and say so."""


@runtime_checkable
class Source(Protocol):
    """Random access to annotated images. `image` and `coco_json` may be called from several threads."""

    class_names: tuple[str, ...]
    records: Sequence[Record]
    report: list[str]  # what was found and counted, for people: one line each
    fingerprint: str  # digest of what the data is, wherever it lies

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB pixels of records[index], as stored. Raises UnreadableImageError where nothing can be decoded."""
        ...

    def coco_json(self) -> dict:
        """Ground truth as pycocotools wants it: original image and category ids, boxes in original pixels."""
        ...


# Named, not imported: a source may need what another one does without.
_SOURCES = {
    "coco_json": ("lga_jax.data.coco.source", "CocoJson"),
    "challenge": ("lga_jax.data.challenge.source", "Challenge"),
    "mixed": ("lga_jax.data.mixed", "MixedSource"),
    "tfds": ("lga_jax.data.tfds.source", "TfdsSource"),
}


def open_source(source: str, **arguments: object) -> Source:
    """Opens the source of a config's data.train or data.eval: `source` names the kind, the rest is its own."""
    return find_source(source)(**arguments)


def find_source(source: str) -> Callable[..., Source]:
    """What opens that kind of source. Its name and its settings are right where the recipe was checked."""
    module, name = _SOURCES[source]
    return getattr(importlib.import_module(module), name)
