"""A source that lies in memory, and an executor that does at once what it is given."""

from concurrent.futures import Future

import numpy as np
from ml_collections import ConfigDict

from configs.coco import get_config
from lga_jax.data.source import Record


class Memory:
    """13 small images of two shapes; image i has i % 4 boxes, and image 4 raises `broken` if given."""

    def __init__(self, broken: Exception | None = None) -> None:
        rng = np.random.default_rng(0)
        self._broken = broken
        self._hw = [(20, 30) if number % 3 else (30, 20) for number in range(13)]
        self._pixels = [rng.integers(0, 255, (*hw, 3), np.uint8) for hw in self._hw]
        self.class_names, self.report, self.fingerprint = ("thing",), [], "digest"
        self.records = [self._record(number, hw) for number, hw in enumerate(self._hw)]

    def _record(self, number: int, hw: tuple[int, int]) -> Record:
        boxes = np.array([[i, 0, i + 5, 10] for i in range(number % 4)], np.float32).reshape(-1, 4)
        return Record(number, *hw, boxes, np.zeros(len(boxes), np.int32), np.zeros(len(boxes), bool))

    def image(self, index: int) -> np.ndarray:
        if index == 4 and self._broken:
            raise self._broken
        return self._pixels[index]

    def truth(self) -> dict:
        raise NotImplementedError


class Inline:
    """In the place of ThreadPoolExecutor: every call has ended, or failed, when `submit` returns."""

    def __init__(self, max_workers: int, thread_name_prefix: str) -> None:
        pass

    def submit(self, function, *arguments) -> Future:
        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        pass


def data_config(**values: object) -> ConfigDict:
    """Buckets that hold Memory's images."""
    config = get_config().data
    config.update(short_edges=(24, 32), eval_short_edge=32, long_edge=48, buckets=((32, 48), (48, 32)), num_workers=2)
    config.update(values)
    return config
