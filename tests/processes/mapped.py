"""A step and a prediction of a few numbers, over the devices of one or two processes; prints the results.

python -m tests.processes.mapped [PORT PROCESS]
"""

import functools
import json
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lga_jax.inference.locate import locate
from lga_jax.inference.step import replicate
from lga_jax.processes.join import join_processes
from lga_jax.processes.mesh import batch_sharding, map_over_devices
from lga_jax.structs import DEVICE_AXIS, Detections

IMAGES = 8  # of the global batch


class Row(NamedTuple):
    """Some fields of a batch."""

    index: jax.Array
    scale_hw: jax.Array


def step(state, batch):
    place = jax.lax.axis_index(DEVICE_AXIS) * len(batch.index) + jnp.arange(len(batch.index))
    total = jax.lax.psum((batch.index * (place + 1)).sum(), DEVICE_AXIS)
    return {"sum": state["sum"] + total}, {"total": total}


def predict(variables, batch):
    shape = (len(batch.index), 1)
    scores = (jnp.broadcast_to(batch.index[:, None], shape) + variables["sum"]).astype(jnp.float32)
    boxes, none, masks = jnp.zeros((*shape, 4)), jnp.zeros((*shape, 0, 2)), jnp.zeros((*shape, 0, 0))
    return Detections(boxes, scores, jnp.zeros(shape, jnp.int32), scores >= 0, boxes, none, none, masks)


def batch(process, count):
    """This process's rows."""
    rows = np.arange(IMAGES, dtype=np.int32).reshape(count, -1)[process].reshape(jax.local_device_count(), -1)
    put = functools.partial(jax.make_array_from_process_local_data, batch_sharding(jax.local_devices()))
    return Row(put(rows), put(np.ones((*rows.shape, 2), np.float32)))


def results(process=0, count=1):
    train = map_over_devices(step, gather=False, donate=True)
    evaluate = map_over_devices(predict, gather=True)
    state, rows = replicate({"sum": np.int32(0)}), batch(process, count)
    before = state
    for _ in range(3):
        state, metrics = train(state, rows)
    first, second = locate(evaluate, state, iter([rows, rows]))
    assert first.index.tolist() == second.index.tolist()
    return {
        "total": int(metrics["total"]),
        "sum": int(jax.device_get(state["sum"])),
        "donated": before["sum"].is_deleted(),
        "index": second.index.tolist(),
        "scores": second.detections.scores[:, 0].tolist(),
    }


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    port, process = sys.argv[1], int(sys.argv[2])
    join_processes(f"127.0.0.1:{port}", 2, process)
    print(json.dumps(results(process, 2)), flush=True)
