"""Bytes pass both ways; the end of process 0 is noticed late."""

import socket
import threading

import pytest

from lga_jax.processes.channel import listen
from lga_jax.processes.relay import start_relay


@pytest.fixture
def server():
    with listen("127.0.0.1", 0) as server:
        yield server


def _relayed(server, delay):
    """Both ends of a connection through a relay."""
    port = start_relay("127.0.0.1", server.getsockname()[1], delay)
    client = socket.create_connection(("127.0.0.1", port))
    return client, server.accept()[0]


def test_bytes_pass_both_ways(server):
    client, coordinator = _relayed(server, 0.0)
    with client, coordinator:
        sent = bytes(range(256)) * 2000
        threading.Thread(target=client.sendall, args=(sent,), daemon=True).start()
        with coordinator.makefile("rb") as file:
            assert file.read(len(sent)) == sent
        coordinator.sendall(b"answer")
        assert client.recv(100) == b"answer"
        client.close()
        assert coordinator.recv(1) == b""


@pytest.mark.parametrize("delay", [0.0, 600.0])
def test_the_end_of_the_other_side_is_forwarded_after_the_delay(server, delay):
    client, coordinator = _relayed(server, delay)
    with client:
        coordinator.close()
        client.settimeout(0.2 if delay else 60)
        if delay:
            with pytest.raises(TimeoutError):
                client.recv(1)
        else:
            assert client.recv(1) == b""


def test_without_a_coordinator_the_connection_is_closed():
    with listen("127.0.0.1", 0) as closed:
        port = closed.getsockname()[1]
    with socket.create_connection(("127.0.0.1", start_relay("127.0.0.1", port))) as client:
        assert client.recv(1) == b""
