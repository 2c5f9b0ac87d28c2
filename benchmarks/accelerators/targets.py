"""Compiles functions for accelerators that this machine does not have.

The GPU compiler needs the packages jax-cuda12-plugin, jax-cuda12-pjrt and nvidia-cuda-nvcc-cu12, but no driver and no
cuDNN; the TPU compiler needs libtpu (`make accelerators` installs them). Without a device nothing is autotuned: matrix
products keep their default tiles, and the algorithm of a convolution is open.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.stages import Compiled, Lowered

from lga_jax.structs import DEVICE_AXIS

# XLA's description of an H100 SXM (xla/tools/hlo_opt/gpu_specs): the sizes that its cost models read.
_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  threads_per_block_limit: 1024  threads_per_warp: 32  threads_per_core_limit: 2048
  shared_memory_per_block: 49152  shared_memory_per_core: 233472  shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  core_count: 132  fpus_per_core: 128  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535
  block_dim_limit_z: 65535  clock_rate_ghz: 1.98
  memory_bandwidth: 3352320000000  l2_cache_size: 52428800  device_memory_size: 84929347584
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 9 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


class Target(NamedTuple):
    """A kind of device."""

    platform: str  # of JAX's lowering
    plugin: str  # the module with the compiler
    topology: Mapping[str, str]  # arguments of get_topology_desc for eight devices
    bandwidth: float  # of the memory, bytes/s
    flops: float  # peak of bfloat16 products, 1/s
    launch: float  # the shortest time of a kernel, s


TARGETS = {
    "h100": Target("cuda", "jax_cuda12_plugin", dict(target_config=_H100, topology="1x1x8"), 3.35e12, 989e12, 1.5e-6),
    # A TPU runs its whole program without launches.
    "v5e": Target("tpu", "libtpu", dict(topology_name="v5e:2x4"), 0.82e12, 197e12, 0.0),
}


def is_installed(target: Target) -> bool:
    return find_spec(target.plugin) is not None


def lower_for(
    target: Target, function: Callable, arguments: tuple, *, num_devices: int = 1, donate: bool = False
) -> Lowered:
    """Lowers `function(state, batch)` as it runs on each device: the state on all of them, a part of the batch on each.

    `arguments` are shapes: of the state, and of the batch of one device. The function knows the axis DEVICE_AXIS.
    """
    mesh = Mesh(np.array(_devices(target)[:num_devices]), (DEVICE_AXIS,))
    everywhere, split = PartitionSpec(), PartitionSpec(DEVICE_AXIS)

    def shapes(tree: Any, spec: PartitionSpec, copies: tuple[int, ...] = ()) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((*copies, *leaf.shape), leaf.dtype, sharding=NamedSharding(mesh, spec)),
            tree,
        )

    def on_device(state: Any, batch: Any) -> Any:
        return function(state, jax.tree.map(lambda leaf: leaf[0], batch))

    mapped = jax.shard_map(on_device, mesh=mesh, in_specs=(everywhere, split), out_specs=everywhere, check_vma=False)
    state, batch = arguments
    program = jax.jit(mapped, donate_argnums=0 if donate else ())
    return program.lower(shapes(state, everywhere), shapes(batch, split, (num_devices,)))


def compile_for(target: Target, function: Callable, arguments: tuple, **options: Any) -> Compiled:
    """`lower_for`, and then the target's own compiler."""
    lowered = lower_for(target, function, arguments, **options)
    with _quiet():
        return lowered.compile()


def _devices(target: Target) -> list:
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # libtpu would ask the network which TPU this machine is
    with _quiet():
        return topologies.get_topology_desc(platform=target.platform, **target.topology).devices


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides what the compilers write about the missing device; it does not pass through Python."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
