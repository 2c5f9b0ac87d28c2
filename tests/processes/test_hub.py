"""Who is admitted, and what happens when processes are missing."""

import socket

import pytest

from lga_jax.processes.channel import Channel, listen
from lga_jax.processes.hub import Hub
from tests.faults import refused


@pytest.mark.parametrize(
    ("process", "count", "subject"),
    [(1, 2, "--process_id"), (2, 2, "--process_id"), (-1, 2, "--process_id"), (1, 3, "--num_processes")],
)
def test_a_process_that_does_not_fit_is_refused_and_harms_nobody(join, process, count, subject):
    joined = join(2)
    _, answer = joined.join(process, count)
    assert (answer["kind"], answer["subject"]) == ("refused", subject)
    _compare_all(joined)


@pytest.mark.parametrize("message", [{"kind": "join"}, {"process": 0}, {"kind": "facts", "name": "a"}])
def test_other_connections_are_closed(join, message):
    joined = join(2)
    stranger = joined.connect()
    stranger.send(**message)
    assert list(stranger.messages()) == []
    _compare_all(joined)


def test_nobody_is_asked_for_a_password():
    """A limit that SECURITY.md names."""
    server = listen("127.0.0.1", 0)
    hub = Hub(server, 2, jax_port=1)
    stranger = Channel(socket.create_connection(server.getsockname()[:2]))
    stranger.send(kind="join", process=1, count=2)
    assert next(stranger.messages())["kind"] == "welcome"
    hub.close()
    stranger.close()


def test_missing_processes_are_named_after_the_limit(join):
    joined = join(3)
    with refused("processes 1, 2 of 3", "nothing") as caught:
        joined.members[0].compare("recipe", {}, limit=0.01)
    assert "recipe" in caught.value.expected


def test_a_complete_comparison_ends_its_limit(join):
    joined = join(1)
    for _ in range(2):  # the timer of the first must not end the second
        joined.members[0].compare("recipe", {}, limit=30)
    assert joined.hub._timers == {}


def _compare_all(joined):
    joined.channels[1].send(kind="facts", name="installation", facts={}, limit=60)
    joined.members[0].compare("installation", {}, limit=60)
