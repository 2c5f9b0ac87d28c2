"""The same step over the devices of one process and of two."""

import json
import socket
import subprocess
import sys

import pytest

from tests.processes import mapped

ALL = list(range(mapped.IMAGES))


def test_one_process():
    found = mapped.results()
    assert found["total"] == sum(number * (number + 1) for number in ALL)
    assert found["sum"] == 3 * found["total"]
    assert found["donated"]
    assert found["index"] == ALL
    assert found["scores"] == [float(number + found["sum"]) for number in ALL]


@pytest.mark.slow
def test_two_processes_find_the_same_each_for_its_rows():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "tests.processes.mapped", port]
    processes = [subprocess.Popen([*command, number], stdout=subprocess.PIPE, text=True) for number in "01"]
    first, second = (json.loads(process.communicate(timeout=600)[0].splitlines()[-1]) for process in processes)
    alone = mapped.results()
    for name in ("index", "scores"):
        assert first[name] + second[name] == alone[name]
        first[name] = second[name] = alone[name]
    assert first == second == alone
