"""Loads batches some steps before they are due, so that an error is known before it stops a run."""

from collections import deque
from collections.abc import Callable

from lga_jax.structs import Batch


class Lookahead:
    """The batches of `load`. It has always tried to load `count` more than it returned."""

    def __init__(self, load: Callable[[], Batch], count: int) -> None:
        self._load, self._count = load, count
        self._ready: deque[Batch] = deque()
        self.error: Exception | None = None  # raised by `next` after the batches that are ready

    @property
    def num_ready(self) -> int:
        """Batches that `next` returns before it raises an error."""
        return len(self._ready)

    def __next__(self) -> Batch:
        while self.error is None and len(self._ready) <= self._count:
            try:
                self._ready.append(self._load())
            except Exception as error:
                self.error = error
        if not self._ready:
            raise self.error
        return self._ready.popleft()
