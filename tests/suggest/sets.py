"""Training sets without pixels, and machines."""

import numpy as np

from lga_jax.data.source import Record
from lga_jax.suggest.machine import Machine

CPU = Machine("cpu", 1, 8 * 2**30, 4)
GPU = Machine("gpu", 2, 80 * 2**30, 32)


class Set:
    """Images of one size; in each of them a square object of every class, of these sides."""

    def __init__(
        self,
        num_images: int = 200,
        hw: tuple[int, int] = (480, 640),
        sides: tuple[float, ...] = (40, 120),
        names: tuple[str, ...] = ("bolt", "nut"),
    ) -> None:
        self.class_names = names
        boxes = np.array([[0, 0, side, side] for side in sides], np.float32)
        labels = np.arange(len(sides), dtype=np.int32)
        self.records: list[Record] = [Record(n, *hw, boxes, labels, labels < 0) for n in range(num_images)]

    def image(self, index: int) -> np.ndarray:
        record = self.records[index]
        return np.zeros((record.height, record.width, 3), np.uint8)
