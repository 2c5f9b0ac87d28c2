"""Maps a step over the devices of all processes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lga_jax.structs import DEVICE_AXIS, Array


def map_over_devices(step: Callable, *, gather: bool, donate: bool = False) -> Callable:
    """`step(replicated, batch)`, as each device computes it, as one compiled function over all devices.

    Leaves of the batch are [devices, b, ...] for leaves [b, ...] of the step; the first argument is the same on all
    devices. The compiled function has jax's method `lower`. With one process it is `jax.pmap`, which is
    jit(shard_map) inside. With several, `pmap` would rebuild each array from the parts of the processes in every call:
    there jit(shard_map) takes arrays that cover all processes (`batch_sharding`, `replicated_sharding`).

    Args:
        step: computes a device's part; knows only the axis name DEVICE_AXIS.
        gather: leaves of the result are [devices, ...]; False: they are equal on all devices and have no such axis.
        donate: the first argument's memory is used for the result.
    """
    donated = (0,) if donate else ()
    if jax.process_count() == 1:
        out_axes = 0 if gather else None
        return jax.pmap(step, axis_name=DEVICE_AXIS, in_axes=(None, 0), out_axes=out_axes, donate_argnums=donated)

    def on_device(replicated: Any, batch: Any) -> Any:
        result = step(replicated, jax.tree.map(lambda leaf: leaf[0], batch))
        return jax.tree.map(lambda leaf: leaf[None], result) if gather else result

    split, everywhere = PartitionSpec(DEVICE_AXIS), PartitionSpec()
    mapped = jax.shard_map(
        on_device,
        mesh=_mesh(jax.local_devices()),
        in_specs=(everywhere, split),
        out_specs=split if gather else everywhere,
        check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=donated)


def batch_sharding(local_devices: Sequence[jax.Device]) -> NamedSharding:
    """The sharding of batches; leaves are [devices, b, ...]."""
    return NamedSharding(_mesh(local_devices), PartitionSpec(DEVICE_AXIS))


def replicated_sharding() -> NamedSharding:
    """The sharding of the state and of the variables."""
    return NamedSharding(_mesh(jax.local_devices()), PartitionSpec())


def local_rows(leaf: Array) -> np.ndarray:
    """The rows of this process, of an array that `map_over_devices` gathered or of a batch; copied to the host."""
    if isinstance(leaf, np.ndarray) or leaf.is_fully_addressable:
        return np.asarray(leaf)
    if leaf.size == 0:  # jit leaves an array without elements undivided
        return np.zeros((leaf.shape[0] // jax.process_count(), *leaf.shape[1:]), leaf.dtype)
    shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start)
    return np.concatenate([np.asarray(shard.data) for shard in shards])


def _mesh(local_devices: Sequence[jax.Device]) -> Mesh:
    """One process: its devices. Several: all devices, those of process 0 first, as the rows of a global batch."""
    devices = list(local_devices)
    if jax.process_count() > 1:
        devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices), (DEVICE_AXIS,))
