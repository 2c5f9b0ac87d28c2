"""Joining and its faults. tests/training/test_processes.py joins real processes."""

import sys
from threading import Thread

import jax
import pytest

from lga_jax.errors import UserError
from lga_jax.processes import join as join_module
from lga_jax.processes import member as member_module
from lga_jax.processes.channel import listen
from lga_jax.processes.join import compare, end_if_failing, ending_together, find_cluster, join_processes, joined
from tests.faults import refused
from tests.processes.joining import WAIT


class Ended(BaseException):
    """In place of the end of the process."""


@pytest.fixture
def as_process_0(join, monkeypatch):
    """This process is process 0 of 2. The second is `.members[1]`."""
    processes = join(2)
    monkeypatch.setattr(join_module, "_member", processes.members[0])
    monkeypatch.setattr(join_module, "_NEIGHBOUR_FIRST", 0.0)

    def end(status):
        raise Ended(status)

    monkeypatch.setattr(join_module.os, "_exit", end)
    return processes


@pytest.mark.parametrize("address", ["host", "host:", ":12", "host:0", "host:65536", "host:http"])
def test_an_address_needs_host_and_port(address):
    with refused("--coordinator_address", address):
        join_processes(address, 2, 1)


def test_an_address_may_be_a_name_or_of_version_6():
    assert join_module._split("node-1.cluster:80") == ("node-1.cluster", 80)
    assert join_module._split("[::1]:80") == ("::1", 80)


def test_a_process_0_that_does_not_start_is_one_error_after_the_limit():
    with listen("127.0.0.1", 0) as closed:
        port = closed.getsockname()[1]
    with refused("--coordinator_address") as caught:
        join_processes(f"127.0.0.1:{port}", 2, 1, limit=0.0)
    assert f"127.0.0.1:{port}" in caught.value.expected


def test_a_port_in_use_is_one_error():
    with listen("", 0) as used:
        port = used.getsockname()[1]
        with refused("--coordinator_address", f"^{port}: "):
            join_processes(f"localhost:{port}", 2, 0)


def test_processes_that_do_not_join_are_named_after_the_limit():
    port = join_module._free_port()
    with refused("processes 1, 2 of 3"):
        join_processes(f"127.0.0.1:{port}", 3, 0, limit=0.05)


def test_outside_of_a_cluster_auto_is_one_error(monkeypatch):
    monkeypatch.setattr(join_module.ClusterEnv, "_cluster_types", [])
    with refused("--coordinator_address auto"):
        find_cluster()


def test_a_cluster_gives_address_and_numbers(monkeypatch):
    """Slurm sets these variables for each task."""
    for name, value in {
        "SLURM_JOB_ID": "65536",
        "SLURM_STEP_NODELIST": "node[3-4]",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "0",
        "SLURM_STEP_NUM_NODES": "2",
    }.items():
        monkeypatch.setenv(name, value)
    address, count, process = find_cluster()
    assert (address.split(":")[0], count, process) == ("node3", 2, 1)


def test_one_process_joins_nobody_and_compares_nothing():
    join_processes("127.0.0.1:1", 1, 0)
    assert joined() is None
    compare("recipe", lambda: pytest.fail("not needed"))
    with pytest.raises(ZeroDivisionError), ending_together():
        raise ZeroDivisionError


def test_a_missing_device_is_one_line_with_several_processes_too(as_process_0, capfd, monkeypatch):
    monkeypatch.setattr(join_module, "missing_device", lambda error: UserError("JAX_PLATFORMS=cuda"))
    monkeypatch.setattr(type(as_process_0.members[1]), "_hear_failure", _hear)
    with pytest.raises(Ended), ending_together():
        raise RuntimeError("no backend")
    assert capfd.readouterr().err == "error: JAX_PLATFORMS=cuda\n"
    assert as_process_0.line(1) == "JAX_PLATFORMS=cuda"


def test_jaxs_own_initialisation_does_not_suffice(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with refused("jax.distributed.initialize"):
        joined()


@pytest.mark.parametrize(
    ("error", "status", "said", "told"),
    [
        (
            UserError("data.train", found="nothing"),
            2,
            "error: data.train: found nothing\n",
            "data.train: found nothing",
        ),
        (KeyboardInterrupt(), 130, "interrupted\n", "KeyboardInterrupt"),
        (SystemExit(3), 3, "", "SystemExit"),
        (ValueError("bug"), 1, "ValueError: bug\n", "ValueError"),
    ],
)
def test_an_exception_ends_all_processes(as_process_0, capfd, monkeypatch, error, status, said, told):
    monkeypatch.setattr(type(as_process_0.members[1]), "_hear_failure", _hear)
    with pytest.raises(Ended) as caught, ending_together():
        raise error
    assert caught.value.args == (status,)
    written = capfd.readouterr().err
    assert written.endswith(said) and ("Traceback" in written) == (status == 1)
    assert as_process_0.line(1) == told


@pytest.mark.parametrize("failing", [0, 1])
def test_after_a_stop_before_an_error_one_process_raises_it_and_the_others_end_with_a_line(as_process_0, failing):
    for member in as_process_0.members:
        member.begin_steps(3)
    as_process_0.members[failing].ask_to_stop("OSError: disk")
    end = Thread(target=as_process_0.members[1].compare, args=("end", {}, WAIT))
    end.start()
    if failing == 0:
        with pytest.raises(OSError, match="disk"):
            end_if_failing(OSError("disk"))
    else:
        end_if_failing(None)
        assert as_process_0.line(0).startswith(
            "process 1 of 2 has ended (OSError: disk) after step 4, which is saved; "
        )
    end.join(WAIT)


def test_after_an_exception_that_nobody_caught_the_others_end_too(as_process_0, monkeypatch):
    """The interpreter has printed it. Waiting for the others would be for ever: they wait for this process."""
    monkeypatch.setattr(member_module, "_GRACE", 0.0)
    monkeypatch.setattr(sys, "last_value", ZeroDivisionError("x"), raising=False)
    join_module._leave(as_process_0.members[0])
    assert as_process_0.members[0].has_left
    assert "process 0 of 2 has ended (ZeroDivisionError)" in as_process_0.line(1)


def test_without_an_error_a_run_just_ends(as_process_0):
    end_if_failing(None)
    assert not as_process_0.members[0].has_left


def _hear(member, process, line):
    member._failure_told.set()
    if member.process == 1:
        member._end(line)
