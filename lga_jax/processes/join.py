"""Joins the processes of a run.

    join_processes("10.0.0.1:1234", count=2, process=0)      # in the other process: process=1
    with lga_jax.open_run(recipe, workdir) as run: ...

Process 0 listens on the port. Connections of JAX and of its collective operations use other ports, which the operating
system chooses.
"""

import atexit
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
from jax._src.clusters import ClusterEnv  # jax.distributed.initialize uses it; there is no public name

from lga_jax.errors import UserError, missing_device
from lga_jax.memory import out_of_memory
from lga_jax.processes.channel import Channel, listen
from lga_jax.processes.facts import installation
from lga_jax.processes.hub import Hub
from lga_jax.processes.member import Member, end_process
from lga_jax.processes.relay import start_relay
from lga_jax.terminal import say

# Seconds until all processes have started. Nobody can tell a process that was killed before it connected from one that
# starts late.
JOIN_LIMIT = 60.0
_COMPARE_LIMIT = 1800.0  # seconds until all processes have opened their data
_JAX_LIMIT = 600  # seconds; JAX's own detection of lost processes, which takes effect only if the member's fails
_NEIGHBOUR_FIRST = 10.0  # seconds in which the member reports a lost process before an error that follows from the loss

_member: Member | None = None


def join_processes(address: str, count: int, process: int, limit: float = JOIN_LIMIT) -> None:
    """Joins `count` processes to one run, as jax.distributed.initialize does; waits for all of them.

    Afterwards this process ends, with one line and status 1, when another process is lost or fails.

    Args:
        address: HOST:PORT of process 0; the same in all processes.
        count, process: the number of processes, and the number of this one from 0.
        limit: seconds to wait for the others.

    Raises UserError if processes are missing, or if their packages or code differ.
    """
    global _member
    if count == 1:
        return
    host, port = _split(address)
    say(f"process {process} of {count}: waits up to {limit:.0f} s (--join_seconds) for all, at {host}:{port}")
    if process == 0:
        Hub(_open_port(port), count, _free_port())
    channel = Channel(_connect(host if process else "localhost", port, limit))
    channel.send(kind="join", process=process, count=count)
    welcome = next(channel.messages(), {"subject": address, "expected": "process 0 of a run"})
    if welcome.get("kind") != "welcome":
        raise UserError(**{key: text for key, text in welcome.items() if key != "kind"})
    member = Member(channel, process, count, welcome["token"], end_process)
    member.compare("installation", installation(), limit)
    say(f"process {process} of {count}: all have started")
    jax_port = welcome["jax_port"]
    at = f"127.0.0.1:{start_relay(host, jax_port)}" if process else f"127.0.0.1:{jax_port}"
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM
    jax.distributed.initialize(at, count, process, heartbeat_timeout_seconds=_JAX_LIMIT)
    atexit.register(_leave, member)
    _member = member


def _leave(member: Member) -> None:
    """At the end of the interpreter. After an exception that nobody has caught the others cannot come to their end."""
    if (error := getattr(sys, "last_value", None)) is not None:
        member.fail(type(error).__name__)
    else:
        member.leave_together()


def find_cluster(limit: float = JOIN_LIMIT) -> tuple[str, int, int]:
    """(address, count, process) of a TPU pod, Slurm, Open MPI or Kubernetes job. Raises UserError outside of one."""
    address, count, process, _ = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, limit)
    if None in (address, count, process):
        raise UserError(
            "--coordinator_address auto",
            expected="a cluster that jax knows (TPU pod, Slurm, Open MPI, Kubernetes)",
            found="none on this machine",
            remedy="leave the flag out for one process, or give HOST:PORT, --num_processes and --process_id",
        )
    return address, count, process


def joined() -> Member | None:
    """The connection to the other processes; None in a run with one process.

    Raises UserError if jax.distributed was initialised without `join_processes`.
    """
    if _member is None and jax.process_count() > 1:
        raise UserError(
            "jax.distributed.initialize",
            expected="lga_jax.join_processes(address, count, process)",
            found="processes that do not know each other's recipe and data",
            remedy="call it instead",
        )
    return _member


def compare(name: str, facts: Callable[[], Mapping[str, Any]]) -> None:
    """Raises UserError in all processes if a process differs from process 0 in the facts. Every process must call it.

    `facts` is not called in a run with one process. Processes with different recipes or data would wait for each other
    for ever, or average unrelated gradients.
    """
    if member := joined():
        member.compare(name, facts(), _COMPARE_LIMIT)


def difference(name: str, facts: Callable[[], Mapping[str, Any]]) -> str:
    """As `compare`, but a difference is returned, as "process 1: params"; "" without one or with one process."""
    member = joined()
    return member.difference(name, facts(), _COMPARE_LIMIT) if member else ""


def end_if_failing(error: Exception | None) -> None:
    """After all processes have stopped and saved because of an error of one (`Member.ask_to_stop`): ends all.

    error: what that process raises. The others end with one line.
    """
    if (member := joined()) is None or member.failing is None:
        return
    member.compare("end", {}, _COMPARE_LIMIT)  # all have saved
    member.leave()
    if member.failing[0] == member.process:
        raise error
    member.end_saved()


@contextmanager
def ending_together() -> Iterator[None]:
    """With several processes, an exception ends this process and all others. One process raises it as usual.

    The others would wait for this process in a collective operation, and this process for them in its clean-up.
    """
    try:
        yield
    except BaseException as error:
        if _member is None or isinstance(error, GeneratorExit):
            raise
        _end_with(error, _member)


def _end_with(error: BaseException, member: Member) -> None:
    error = missing_device(error) or out_of_memory(error) or error
    if isinstance(error, UserError):
        lines, status = [f"error: {fault}\n" for fault in getattr(error, "faults", (error,))], 2
    elif isinstance(error, KeyboardInterrupt):
        lines, status = ["interrupted\n"], 130
    elif isinstance(error, SystemExit):
        lines, status = [], error.code if isinstance(error.code, int) else 1
    else:
        if not member.has_left:
            time.sleep(_NEIGHBOUR_FIRST)
        lines, status = traceback.format_exception(error), 1
    member.fail(str(error) if status == 2 else type(error).__name__)
    sys.stdout.flush()
    os.write(2, "".join(lines).encode())
    os._exit(status)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(
            "--coordinator_address",
            expected="HOST:PORT of process 0, for example 10.0.0.1:1234",
            found=address,
        )
    return host.strip("[]"), int(port)


def _open_port(port: int) -> socket.socket:
    try:
        return listen("", port)
    except OSError as error:
        raise UserError(
            "--coordinator_address",
            expected="a free port of this machine, which is process 0",
            found=f"{port}: {error.strerror}",
            remedy="give another port to all processes",
        ) from error


def _free_port() -> int:
    with listen("", 0) as server:
        return server.getsockname()[1]


def _connect(host: str, port: int, limit: float) -> socket.socket:
    """Tries until process 0 has started."""
    end = time.monotonic() + limit
    while True:
        try:
            return socket.create_connection((host, port), timeout=10)
        except OSError as error:
            if time.monotonic() > end:
                raise UserError(
                    "--coordinator_address",
                    expected=f"process 0 at {host}:{port} within {limit:.0f} s",
                    found=str(error.strerror or error),
                    remedy="start process 0, check the address and the firewall, or raise --join_seconds",
                ) from error
        time.sleep(0.2)
