"""A process's connection to the hub."""

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from lga_jax.errors import UserError, listed
from lga_jax.processes.channel import Channel
from lga_jax.processes.facts import difference_error

_REMEDY = "start all processes again with the same command"
_GRACE = 5.0  # seconds for the main thread to report an error of its own


class Member:
    """One of `count` processes that train together. A thread listens to the hub.

    If another process is lost or fails, the thread calls `end` with one line: the main thread may be waiting in a
    collective operation, which nothing can end.
    """

    def __init__(self, channel: Channel, process: int, count: int, token: str, end: Callable[[str], None]) -> None:
        self.process, self.count, self.token = process, count, token
        self._channel, self._end = channel, end
        self._step: int | None = None
        self._limit: int | None = None  # the step before which this process waits for the decision where to stop
        self._stop_at: int | None = None
        self.failing: tuple[int, str] | None = None  # process and reason of a stop before an error
        self._verdicts: dict[str, dict] = {}
        self._only_reported: set[str] = set()  # names of comparisons after which training continues
        self._leaving = threading.Event()
        self._all_done = threading.Event()
        self._failure_told = threading.Event()
        self._changed = threading.Condition()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def compare(self, name: str, facts: Mapping[str, Any], limit: float) -> None:
        """Waits until all processes have called this, and compares their facts.

        Raises UserError in all processes if a process differs from process 0, or has not called it after `limit`
        seconds.
        """
        if difference := self._first_difference(name, facts, limit):
            raise difference_error(**difference)

    def difference(self, name: str, facts: Mapping[str, Any], limit: float) -> str:
        """As `compare`, but a difference is returned: "process 1: params"; "" without one. Training continues."""
        with self._changed:
            self._only_reported.add(name)
        difference = self._first_difference(name, facts, limit)
        return "process {process}: {name}".format(**difference) if difference else ""

    def _first_difference(self, name: str, facts: Mapping[str, Any], limit: float) -> dict | None:
        self._channel.send(kind="facts", name=name, facts=facts, limit=limit)
        with self._changed:
            self._changed.wait_for(lambda: name in self._verdicts)
            verdict = self._verdicts.pop(name)
        if verdict.get("missing"):
            raise UserError(
                f"{_numbers(verdict['missing'])} of {self.count}",
                expected=f"their {name} for comparison within {limit:.0f} s",
                found="nothing",
                remedy=f"look at their output; {_REMEDY}",
            )
        return verdict["difference"]

    def begin_steps(self, step: int) -> None:
        """A run begins at this step. Forgets where an earlier run stopped.

        All processes must have called this before one of them calls `ask_to_stop`.
        """
        with self._changed:
            self._step, self._limit, self._stop_at, self.failing = step, None, None, None

    def ask_to_stop(self, reason: str = "") -> None:
        """Asks all processes to stop at one step.

        With a reason, an error that this process will meet, `failing` has it in all processes. Then this process waits
        for the decision. If each process reads the metrics of a step before it starts the second one after it, the
        others are at most one step ahead meanwhile, and all stop at most two steps later.
        """
        self._channel.send(kind="stop", reason=reason)
        if reason:
            with self._changed:
                self._changed.wait_for(lambda: self._stop_at is not None)

    def stops_at(self, step: int) -> bool:
        """Whether all processes stop after this step. Call it after every step.

        After `ask_to_stop` in any process each process completes the current step and then waits, for some
        milliseconds, until the hub knows the steps of all. The largest of them is where all stop.
        """
        with self._changed:
            self._step = step
            self._changed.wait_for(lambda: self._limit is None or step < self._limit or self._stop_at is not None)
            return self._stop_at is not None and step >= self._stop_at

    def fail(self, line: str) -> None:
        """Reports an error of this process to the others; they end. Call it before the process ends."""
        self._leaving.set()
        self._channel.send(kind="failed", line=line)
        self._failure_told.wait(_GRACE)

    def leave(self) -> None:
        """Reports that this process ends after an error that is known to all."""
        self._leaving.set()
        self._channel.send(kind="left")

    def leave_together(self) -> None:
        """Waits until all processes are done. Until then a process that is lost or fails ends this one too.

        JAX's clean-up waits for the others as well, but would end with an abort if one of them is lost, and after five
        minutes if process 0 still writes results.
        """
        if not self._leaving.is_set():
            self._channel.send(kind="done")
            self._all_done.wait()

    @property
    def has_left(self) -> bool:
        """Whether the end of other processes does not end this one."""
        return self._leaving.is_set()

    def end_saved(self) -> None:
        """Ends this process because of the error in `failing`, before which all have saved."""
        process, reason = self.failing
        event = f"has ended ({reason}) after step {self._stop_at:,}, which is saved"
        self._end(f"process {process} of {self.count} {event}; {_REMEDY}")

    def _listen(self) -> None:
        for message in self._channel.messages():
            self._handle(message)
        self._failure_told.set()  # nobody is left to hear it
        self._end_because("process 0", "is gone")

    def _handle(self, message: dict) -> None:
        match message["kind"]:
            case "verdict":
                differs = message.get("missing") or message["difference"]
                if differs and message["name"] not in self._only_reported:
                    self._leaving.set()  # all processes report it themselves, and end
                with self._changed:
                    self._verdicts[message["name"]] = message
                    self._changed.notify_all()
            case "ask":
                with self._changed:
                    self._limit = (self._step or 0) + 1
                    if message["reason"] and self._stop_at is None:
                        self.failing = message["process"], message["reason"]
                self._channel.send(kind="limit", step=self._limit)
            case "stop_at":
                with self._changed:
                    if self._stop_at is None:  # a second signal must not move the step
                        self._stop_at = message["step"]
                    self._changed.notify_all()
            case "failed":
                self._hear_failure(f"process {message['process']}", message["line"])
            case "all done":
                self._leaving.set()
                self._all_done.set()
            case "gone":
                self._end_because(f"process {message['process']}", "is gone")

    def _hear_failure(self, process: str, line: str) -> None:
        # The cause may be the same in all processes, for example a loss that is not finite.
        if process == f"process {self.process}":
            self._failure_told.set()
        elif not self._leaving.wait(_GRACE):
            self._end_because(process, f"has ended ({line})")

    def _end_because(self, process: str, event: str) -> None:
        if not self._leaving.is_set():
            when = "before the first step" if not self._step else f"since step {self._step:,}"
            self._end(f"{process} of {self.count} {event} {when}; {_REMEDY}")


def end_process(line: str) -> None:
    """Prints the line and ends this process with status 1, whatever its other threads do."""
    # os.write, because another thread may hold the lock of sys.stderr.
    os.write(2, f"\nerror: {line}\n".encode())
    os._exit(1)


def _numbers(processes: list[int]) -> str:
    return f"process{'es' if len(processes) > 1 else ''} {listed(processes, 8)}"
