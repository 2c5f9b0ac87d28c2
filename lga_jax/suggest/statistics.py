"""What a data set says about its recipe: sizes of images and objects, numbers of objects and images of each class."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from lga_jax.data.source import Source


class Statistics(NamedTuple):
    """A training set in numbers. Crowds do not count; pixels are those of the stored images."""

    class_names: tuple[str, ...]
    hw: Int[np.ndarray, "n 2"]  # height and width of every image
    box_hw: Float[np.ndarray, "q 2"]  # height and width of every object
    box_image: Int[np.ndarray, "q"]  # its image
    box_weight: Float[np.ndarray, "q"]  # every class has a sum of 1: the score is a mean over classes
    class_images: Int[np.ndarray, "k"]  # images with an object of each class

    @property
    def num_images(self) -> int:
        """The number of images."""
        return len(self.hw)

    @property
    def short_side(self) -> float:
        """The median short side of the images."""
        return float(np.median(self.hw.min(axis=1)))

    @property
    def most_objects(self) -> int:
        """The number of objects in the fullest image."""
        return int(np.bincount(self.box_image, minlength=1).max())

    def object_side(self, share: float) -> float:
        """The side (root of the area) below which this share of the objects lies, all classes counting alike."""
        sides = np.sqrt(self.box_hw.prod(axis=1))
        order = np.argsort(sides)
        covered = np.cumsum(self.box_weight[order]) / self.box_weight.sum()
        return float(sides[order][min(np.searchsorted(covered, share), len(order) - 1)])


def measure(source: Source) -> Statistics:
    """The statistics of a source that has at least one object."""
    records = source.records
    trained = [~record.crowd for record in records]
    boxes = np.concatenate([record.boxes_original[kept] for record, kept in zip(records, trained, strict=True)])
    labels = np.concatenate([record.labels[kept] for record, kept in zip(records, trained, strict=True)])
    image = np.repeat(np.arange(len(records)), [kept.sum() for kept in trained])
    pairs = np.unique(np.stack([image, labels]), axis=1)
    num_classes = len(source.class_names)
    return Statistics(
        class_names=source.class_names,
        hw=np.array([(record.height, record.width) for record in records]),
        box_hw=(boxes[:, 2:] - boxes[:, :2])[:, ::-1].astype(np.float64),
        box_image=image,
        box_weight=1 / np.bincount(labels, minlength=num_classes)[labels],
        class_images=np.bincount(pairs[1], minlength=num_classes),
    )
