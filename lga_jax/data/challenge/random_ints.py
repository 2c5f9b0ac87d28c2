"""Random integers that are equal on every machine and with every numpy: raw Philox bits, no distributions."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

Item = TypeVar("Item")
_BLOCK = 64  # numbers fetched at a time; a single draw from numpy is a hundred times slower


class RandomInts:
    """An endless sequence of draws, a pure function of (seed, index, stream). Streams of an image do not overlap."""

    def __init__(self, seed: int, index: int, stream: int) -> None:
        key, counter = np.array([seed, index], np.uint64), np.array([0, 0, 0, stream], np.uint64)
        self._bits = np.random.Philox(key=key, counter=counter)
        self._block: list[int] = []

    def between(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        if not self._block:
            self._block = self._bits.random_raw(_BLOCK).tolist()
        return low + ((self._block.pop() >> 32) * (high - low + 1) >> 32)

    def choice(self, items: Sequence[Item]) -> Item:
        return items[self.between(0, len(items) - 1)]

    def chance(self, percent: int) -> bool:
        return self.between(1, 100) <= percent

    def octets(self, count: int) -> UInt8[np.ndarray, "n"]:
        """`count` bytes, each 0..255; faster than `between` for many."""
        words = self._bits.random_raw(-(-count // 8))
        return words.astype("<u8").view(np.uint8)[:count]  # the same order on big-endian machines
