"""Messages between two processes: JSON objects, one per line, over a TCP connection."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

_MAX_BYTES = 2**24  # of a message

# The operating system ends a connection to a machine that has not answered for 30 s. It does so itself, while Python is
# busy. A process that ends closes its connections at once.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}


class Channel:
    """One end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        end_silent_connection(connection)
        self._connection, self._lines = connection, connection.makefile("rb")
        self._sending = threading.Lock()

    def send(self, **message: Any) -> None:
        """Sends a message. A lost connection raises nothing here; it ends `messages`."""
        line = json.dumps(message).encode() + b"\n"
        with self._sending, suppress(OSError):
            self._connection.sendall(line)

    def messages(self) -> Iterator[dict]:
        """Waits for messages, until the connection ends or something else than a message arrives."""
        with suppress(OSError, ValueError, RecursionError):
            while line := self._lines.readline(_MAX_BYTES):
                message = json.loads(line)
                if not isinstance(message, dict):
                    return
                yield message

    def close(self) -> None:
        """Ends the connection for both sides."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def end_silent_connection(connection: socket.socket) -> None:
    """Lets the operating system end the connection when the other machine does not answer."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # not on every operating system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def listen(host: str, port: int) -> socket.socket:
    """A server socket; host "": all addresses of this machine; port 0: any free port. Raises OSError."""
    if not host and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server((host, port))
