"""Messages arrive whole and in order; a lost connection only ends them."""

import socket

import pytest

from lga_jax.processes.channel import Channel, listen


@pytest.fixture
def ends():
    """A Channel and the socket at its other end."""
    with listen("127.0.0.1", 0) as server, socket.create_connection(server.getsockname()[:2]) as other:
        channel = Channel(server.accept()[0])
        yield channel, other
        channel.close()


def test_messages_arrive_in_order(ends):
    channel, other = ends
    other.sendall(b'{"a": 1}\n{"b"')
    messages = channel.messages()
    assert next(messages) == {"a": 1}
    other.sendall(b': [2, "x"]}\n')
    assert next(messages) == {"b": [2, "x"]}
    channel.send(c=3)
    assert other.makefile().readline() == '{"c": 3}\n'


@pytest.mark.parametrize("last", [b"", b"GET / HTTP/1.1\n", b"[1]\n", b'{"cut": ', b"\xff\n", b"[" * 10**5 + b"\n"])
def test_the_end_of_the_connection_or_anything_else_ends_the_messages(ends, last):
    channel, other = ends
    other.sendall(b'{"a": 1}\n' + last)
    other.shutdown(socket.SHUT_WR)
    assert list(channel.messages()) == [{"a": 1}]


def test_sending_to_a_lost_process_raises_nothing(ends):
    channel, other = ends
    other.close()
    assert list(channel.messages()) == []
    for _ in range(3):
        channel.send(a="b" * 2**16)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this operating system has other options")
def test_the_system_ends_a_connection_to_a_silent_machine_within_30_s(ends):
    with listen("127.0.0.1", 0) as server, socket.create_connection(server.getsockname()[:2]) as connection:
        Channel(connection)
        seconds = [
            connection.getsockopt(socket.IPPROTO_TCP, name) for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)
        ]
        count = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert seconds[0] + seconds[1] * count <= 30
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
