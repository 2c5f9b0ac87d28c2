"""The programs of a run are compiled before its first step: one for each bucket that images are in."""

import ctypes
import platform
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from jax.stages import Lowered

from lga_jax.structs import Batch


def compile_ahead(programs: Mapping[str, Lowered]) -> dict[str, float]:
    """Compiles all at the same time; the seconds that each took, by name.

    Calls of the steps that were lowered find these programs in jax's own cache, if shapes, dtypes and shardings are the
    same. Lowering is left to the caller and one thread: several would each make a pmapped function of their own.
    """

    def seconds(lowered: Lowered) -> float:
        start = time.perf_counter()
        lowered.compile()
        return time.perf_counter() - start

    threads = ThreadPoolExecutor(max(1, len(programs)))  # XLA compiles outside Python's lock
    try:
        taken = dict(zip(programs, threads.map(seconds, programs.values()), strict=True))
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for the compiler
    return_freed_memory()
    return taken


def return_freed_memory() -> None:
    """To the operating system, where the C library would keep it: 700 MiB after compiling the step of a ResNet-50."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def size_of(batch: Batch) -> str:
    """Height and width of its padded images, to name a program with."""
    return "{}x{}".format(*batch.images.shape[2:4])
