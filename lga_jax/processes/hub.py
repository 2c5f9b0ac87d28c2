"""The server in process 0 that all processes of a run are connected to.

Messages have a `kind`. From a process: join, facts, stop, limit, failed, left, done. To the processes: welcome,
refused, verdict, ask, stop_at, failed, gone, all done.
"""

import socket
import threading
import uuid
from typing import Any

from lga_jax.processes.channel import Channel
from lga_jax.processes.facts import first_difference


class Hub:
    """Admits processes 0 to count - 1, compares their facts, lets them stop at one step, and reports lost ones."""

    def __init__(self, server: socket.socket, count: int, jax_port: int) -> None:
        self._server, self._count = server, count
        self._welcome = {"kind": "welcome", "jax_port": jax_port, "token": uuid.uuid4().hex}
        self._channels: dict[int, Channel] = {}
        self._facts: dict[str, dict[int, dict]] = {}  # by name of the comparison and by process
        self._timers: dict[str, threading.Timer] = {}  # by name of the comparison
        self._limits: dict[int, int] = {}  # the step before which a process waits for the decision where to stop
        self._stopping = False
        self._left: set[int] = set()
        self._done: set[int] = set()  # processes that wait for the others to be done
        self._lock = threading.RLock()
        _start(self._accept)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:  # closed
                return
            _start(self._serve, Channel(connection))

    def close(self) -> None:
        """Closes all connections."""
        self._server.close()
        with self._lock:
            for channel in self._channels.values():
                channel.close()

    def _serve(self, channel: Channel) -> None:
        messages = channel.messages()
        process = self._admit(next(messages, {}), channel)
        if process is None:
            return
        for message in messages:
            with self._lock:
                self._handle(process, message)
        if process not in self._left and len(self._done) < self._count:
            self._tell_all(kind="gone", process=process)

    def _admit(self, message: dict, channel: Channel) -> int | None:
        """The number of the process; None if it is refused or is no process of a run."""
        process, count = message.get("process"), message.get("count")
        if message.get("kind") != "join" or not isinstance(process, int):
            channel.close()
            return None
        with self._lock:
            if count != self._count:
                channel.send(kind="refused", subject="--num_processes", expected=f"{self._count}", found=f"{count}")
            elif process in self._channels or not 0 <= process < self._count:
                found = f"a second process {process}"
                channel.send(kind="refused", subject="--process_id", expected="another number", found=found)
            else:
                channel.send(**self._welcome)
                self._channels[process] = channel
                return process
        return None

    def _handle(self, process: int, message: dict) -> None:
        match message.get("kind"):
            case "facts":
                self._collect(process, message["name"], message["facts"], message["limit"])
            case "stop" if not self._stopping:
                self._stopping = True
                self._tell_all(kind="ask", process=process, reason=message["reason"])
            case "limit":
                self._limits[process] = message["step"]
                self._decide()
            case "left":
                self._left.add(process)
                self._decide()
            case "done":
                self._done.add(process)
                self._decide()
                if len(self._done) == self._count:
                    self._tell_all(kind="all done")
            case "failed":
                self._left.add(process)
                self._tell_all(kind="failed", process=process, line=message["line"])

    def _collect(self, process: int, name: str, facts: dict, limit: float) -> None:
        if name not in self._facts:
            self._facts[name] = {}
            self._timers[name] = threading.Timer(limit, self._stop_waiting, (name, limit))
            self._timers[name].daemon = True
            self._timers[name].start()
        self._facts[name][process] = facts
        if len(self._facts[name]) == self._count:
            self._timers.pop(name).cancel()
            self._tell_all(kind="verdict", name=name, difference=first_difference(self._facts.pop(name)))

    def _stop_waiting(self, name: str, limit: float) -> None:
        with self._lock:
            if name not in self._timers:  # complete just now
                return
            del self._timers[name]
            facts = self._facts.pop(name)
            missing = [process for process in range(self._count) if process not in facts]
            self._tell_all(kind="verdict", name=name, missing=missing, limit=limit)

    def _decide(self) -> None:
        """Sends the step to stop at, once all processes that have not ended have named a step they can still reach."""
        if self._stopping and len(self._limits.keys() | self._left | self._done) == self._count:
            self._tell_all(kind="stop_at", step=max(self._limits.values(), default=0))
            self._limits, self._stopping = {}, False

    def _tell_all(self, **message: Any) -> None:
        with self._lock:
            for _, channel in sorted(self._channels.items(), reverse=True):  # process 0 last: it may end the hub
                channel.send(**message)


def _start(function: Any, *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()
