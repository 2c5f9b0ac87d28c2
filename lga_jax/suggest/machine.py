"""The machine that a recipe is suggested for."""

import os
from typing import NamedTuple

import jax

from lga_jax.memory import free_memory


class Machine(NamedTuple):
    """What decides sizes: the kind of the devices, their number, and the memory of one."""

    platform: str  # "cpu", "gpu", "tpu"
    num_devices: int
    num_bytes: int | None  # free memory of a device, or of the process on a CPU; None: not known
    num_cores: int

    @property
    def is_cpu(self) -> bool:
        """Whether training runs on the CPU."""
        return self.platform == "cpu"


def this_machine() -> Machine:
    """The devices that jax uses here."""
    devices = jax.local_devices()
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if devices[0].platform == "cpu":
        free = free_memory()
        return Machine("cpu", len(devices), free and free.num_bytes, num_cores)
    stats = devices[0].memory_stats() or {}
    return Machine(devices[0].platform, len(devices), stats.get("bytes_limit"), num_cores)
