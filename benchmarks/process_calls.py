"""Host time of a call of a training step, with one process and with two.

    python -m benchmarks.process_calls

The state has 391 small arrays, as many as that of configs/coco.py, and the step adds a number to each: what remains is
the work of the host around a step. On CPU devices, over the loopback interface; two processes share the cores.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from lga_jax.inference.step import replicate
from lga_jax.processes.join import join_processes
from lga_jax.processes.mesh import batch_sharding, map_over_devices
from lga_jax.structs import DEVICE_AXIS

ARRAYS = 391
CALLS = 30


def step(state: list, batch: jax.Array) -> tuple[list, jax.Array]:
    change = jax.lax.pmean(batch.mean(), DEVICE_AXIS)
    return [leaf + change for leaf in state], change


def milliseconds(call: Callable, state: list, batch: jax.Array) -> dict[str, float]:
    """Time until a call returns; its result is waited for afterwards."""
    taken = []
    for _ in range(CALLS):
        start = time.perf_counter()
        state, change = call(state, batch)
        taken.append(1e3 * (time.perf_counter() - start))
        jax.block_until_ready((state, change))
    return {"median, ms": statistics.median(taken[3:]), "min, ms": min(taken[3:])}


def measure(use_pmap: bool) -> dict[str, float]:
    """In this process, which may be one of several. `use_pmap`: also with several processes."""
    batch = np.ones((jax.local_device_count(), 4), np.float32)
    state = [np.zeros(8, np.float32)] * ARRAYS
    if use_pmap:
        call = jax.pmap(step, axis_name=DEVICE_AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0)
        return milliseconds(call, [jnp.asarray(leaf) for leaf in state], batch)
    put = jax.make_array_from_process_local_data(batch_sharding(jax.local_devices()), batch)
    return milliseconds(map_over_devices(step, gather=False, donate=True), replicate(state), put)


def rows(args: argparse.Namespace) -> Iterator[dict]:
    table = "Host time of a call, 391 arrays, trivial arithmetic"
    for count in (1, 2):
        for form in ("pmap", "map_over_devices"):
            yield {"table": table, "what": f"{count} processes, {form}" if count > 1 else f"1 process, {form}"} | _run(
                form, count
            )


def _run(form: str, count: int) -> dict[str, float]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "benchmarks.process_calls", "--process", form, port, str(count)]
    processes = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True, cwd=timing.ROOT)
        for number in range(count)
    ]
    said, *_ = [process.communicate()[0] for process in processes]
    return json.loads(said.splitlines()[-1])


def _process(form: str, port: str, count: str, number: str) -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 1)
    join_processes(f"127.0.0.1:{port}", int(count), int(number))
    print(json.dumps(measure(form == "pmap")), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        _process(*sys.argv[2:])
    else:
        from benchmarks import process_calls

        timing.main(process_calls.rows, __doc__)
