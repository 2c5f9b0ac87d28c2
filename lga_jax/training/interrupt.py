"""Stops training between steps after SIGTERM or SIGINT."""

import os
import signal
import threading
from types import FrameType, TracebackType

import jax
import numpy as np
from jax.experimental import multihost_utils

from lga_jax.checkpoints.damage import first_line
from lga_jax.errors import UserError
from lga_jax.processes.join import joined

# A process reads the metrics of each step before it starts the second one after it (`MetricsLog.push`), so a process
# with an error ahead takes at most two steps more until all stop. It must know of the third before it takes the first.
BATCHES_AHEAD = 3


class Interrupt:
    """After `listen`, the first SIGTERM or SIGINT only sets `requested`; a second one has its usual effect.

    Leaving the context restores the handlers. Python allows signal handlers in the main thread only: in another thread
    nothing is installed.
    """

    def __init__(self) -> None:
        self.requested = 0  # the number of the signal; 0: none
        self._asked = False  # whether the other processes know
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore_handlers()

    def listen(self) -> None:
        """Installs the handlers. Before that there is nothing to save, and signals stop the process at once."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._on_signal)

    def agreed(self, step: int, error: Exception | None = None) -> bool:
        """Whether all processes stop after this step. Every process must call this after every step.

        A process that received a signal stops after this step or the next one, and all others at the same step. `error`
        is one that this process will meet BATCHES_AHEAD steps later: all stop before it.
        """
        member = joined()
        if member is None:
            return self.requested > 0
        if (self.requested or error) and not self._asked:
            self._asked = True
            member.ask_to_stop("" if self.requested else _line(error))
        if not member.stops_at(step):
            return False
        self.agree()
        return True

    def agree(self) -> None:
        """Gives all processes the signal that some of them received. Every process must call it at the same time."""
        if jax.process_count() > 1:
            self.requested = int(multihost_utils.process_allgather(np.array(self.requested)).max())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.requested = number
        self._restore_handlers()
        # os.write, because a signal handler must not call print() while print() runs.
        os.write(2, f"\n{signal.Signals(number).name}: saving and stopping; a second signal stops at once\n".encode())

    def _restore_handlers(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())


def _line(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else first_line(error)
