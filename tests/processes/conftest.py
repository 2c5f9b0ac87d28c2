"""Joined processes as threads."""

import pytest

from tests.processes.joining import Joined


@pytest.fixture
def join():
    """A function: the number of processes -> Joined. Closes them at the end."""
    opened = []

    def open_(count):
        opened.append(Joined(count))
        return opened[-1]

    yield open_
    for joined in opened:
        joined.close()
