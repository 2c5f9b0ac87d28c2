"""Forwards the connections of JAX's client to the coordinator in process 0.

If process 0 is lost, JAX's client ends this process at once with a dozen lines. It notices the end of its connection.
The relay delays this end, so that the member reports the lost process first.
"""

import socket
import threading
import time
from contextlib import suppress

from lga_jax.processes.channel import end_silent_connection, listen

DELAY = 20.0  # seconds


def start_relay(host: str, port: int, delay: float = DELAY) -> int:
    """Forwards connections to host:port from a port of this machine, which it returns.

    The other side's end of a connection is forwarded after `delay` seconds.
    """
    server = listen("127.0.0.1", 0)
    threading.Thread(target=_accept, args=(server, host, port, delay), daemon=True).start()
    return server.getsockname()[1]


def _accept(server: socket.socket, host: str, port: int, delay: float) -> None:
    while True:
        ours, _ = server.accept()
        try:
            theirs = socket.create_connection((host, port), timeout=10)
        except OSError:
            ours.close()
            continue
        theirs.settimeout(None)
        end_silent_connection(theirs)
        threading.Thread(target=_forward, args=(ours, theirs, 0.0), daemon=True).start()
        threading.Thread(target=_forward, args=(theirs, ours, delay), daemon=True).start()


def _forward(source: socket.socket, target: socket.socket, delay: float) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
    time.sleep(delay)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
