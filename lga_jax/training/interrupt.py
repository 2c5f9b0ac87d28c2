"""Stopping politely: SIGTERM and SIGINT become a question that the training loop asks between steps."""

import os
import signal
from types import FrameType, TracebackType

import jax
import numpy as np
from jax.experimental import multihost_utils

_AGREE_EVERY = 10  # steps; an agreement makes the host wait for the devices


class Interrupt:
    """While this context lasts, the first SIGTERM or SIGINT only sets `requested`; a second one acts as usual."""

    def __init__(self) -> None:
        self.requested = False
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore_handlers()

    def agreed(self, step: int) -> bool:
        """Whether all processes stop after this step. Every process must ask after every step."""
        if jax.process_count() == 1:
            return self.requested
        # A collective operation that only some processes enter would hang the others: they ask at the same steps.
        return step % _AGREE_EVERY == 0 and bool(multihost_utils.process_allgather(np.array(self.requested)).any())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore_handlers()
        # print() is not allowed to interrupt itself.
        os.write(2, f"\n{signal.Signals(number).name}: saving and stopping; once more stops at once\n".encode())

    def _restore_handlers(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())
