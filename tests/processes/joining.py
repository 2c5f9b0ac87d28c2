"""Members of a run in one process, for tests: a hub and threads on the loopback interface."""

import queue
import socket
import time

from lga_jax.processes.channel import Channel, listen
from lga_jax.processes.hub import Hub
from lga_jax.processes.member import Member

WAIT = 60  # seconds, far more than any message takes


class Joined:
    """`members[i]`; `channels[i]` can be closed to lose process i; `lines(i)` waits for what process i ends with."""

    def __init__(self, count):
        self.server = listen("127.0.0.1", 0)
        self.hub = Hub(self.server, count, jax_port=1)
        self.channels, self.members, self._lines = [], [], []
        for process in range(count):
            channel, welcome = self.join(process, count)
            assert welcome["kind"] == "welcome"
            self._lines.append(queue.Queue())
            self.channels.append(channel)
            self.members.append(Member(channel, process, count, welcome["token"], self._lines[-1].put))

    def connect(self):
        return Channel(socket.create_connection(self.server.getsockname()[:2]))

    def join(self, process, count):
        channel = self.connect()
        channel.send(kind="join", process=process, count=count)
        return channel, next(channel.messages(), None)

    def line(self, process):
        return self._lines[process].get(timeout=WAIT)

    def silent(self, process):
        """Whether the process has not ended. Its listener has heard the end of its connection."""
        self.members[process]._listener.join(WAIT)
        return self._lines[process].empty()

    def wait_until_done(self, process):
        """Until the hub knows it."""
        end = time.monotonic() + WAIT
        while process not in self.hub._done:
            assert time.monotonic() < end
            time.sleep(0.001)

    def close(self):
        for member in self.members:
            member.leave()
        self.hub.close()
        for channel in self.channels:
            channel.close()
