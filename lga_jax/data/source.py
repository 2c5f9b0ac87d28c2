"""The interface of data sources: annotations of all images at once, pixels one image at a time."""

import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from lga_jax.errors import UserError

ImageId = int | str


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


class UnreadableImageError(UserError):
    """An image that cannot be decoded. Loaders replace it by grey, count it and warn."""


@runtime_checkable
class Source(Protocol):
    """Random access to annotated images. `image` and `coco_json` may be called from several threads."""

    class_names: tuple[str, ...]
    records: Sequence[Record]
    report: list[str]  # report lines: what was found and counted
    fingerprint: str  # digest of the data, independent of its path

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB pixels of records[index], as stored. Raises UnreadableImageError if they cannot be decoded."""
        ...

    def coco_json(self) -> dict:
        """Ground truth for pycocotools: original image and category ids, boxes in original pixels."""
        ...


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
