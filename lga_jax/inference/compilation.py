"""Compiles the programs of all buckets before the first step."""

import ctypes
import os
import platform
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
from jax.stages import Lowered

from lga_jax.compiled_programs import FOLDER, SIZE, keep_programs
from lga_jax.memory import Free, free_memory, too_large
from lga_jax.structs import Batch


def compile_ahead(programs: Mapping[str, Lowered]) -> dict[str, float]:
    """Compiles all programs in parallel. Returns the seconds per program, by name.

    Raises OutOfMemoryError for a program that needs more memory than is free, before anything is allocated for it.

    Later calls of the lowered steps find the programs in jax's cache if shapes, dtypes and shardings are equal. Lower
    them in one thread: several threads would create several pmapped functions.
    """

    def seconds(name: str) -> float:
        start = time.perf_counter()
        check_memory(name, programs[name].compile().memory_analysis())
        return time.perf_counter() - start

    threads = ThreadPoolExecutor(max(1, len(programs)))  # XLA releases Python's lock while it compiles
    try:
        taken = dict(zip(programs, threads.map(seconds, programs), strict=True))
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for the compiler
    return_freed_memory()
    return taken


def keep_compiled() -> None:
    """Makes JAX keep compiled programs as `keep_programs` does, in a program that has already imported jax.

    A folder that the program, or a variable of its environment, named to JAX stays, also an empty name. Name it before:
    JAX does not change the folder after it has read or written one.
    """
    if FOLDER in os.environ or jax.config.jax_compilation_cache_dir is not None:
        return
    environ = dict(os.environ)
    keep_programs(environ)
    if FOLDER in environ:
        jax.config.update("jax_compilation_cache_dir", environ[FOLDER])
        if jax.config.jax_compilation_cache_max_size == -1:  # JAX's default: no limit
            jax.config.update("jax_compilation_cache_max_size", int(environ[SIZE]))


def check_memory(name: str, stated: Any) -> None:
    """Raises OutOfMemoryError if a program needs more memory beside its arguments than is free.

    `stated` is the memory_analysis() of jax for the compiled program: a lower limit, so a program that passes can still
    fail. Some backends state nothing (None).
    """
    free = _free()
    if stated is None or free is None:
        return
    needed = stated.temp_size_in_bytes + stated.output_size_in_bytes - stated.alias_size_in_bytes
    needed *= jax.local_device_count() if jax.default_backend() == "cpu" else 1  # these share the memory
    if needed > free.num_bytes:
        raise too_large(name, needed, free)


def _free() -> Free | None:
    if jax.default_backend() == "cpu":
        return free_memory()
    stats = jax.local_devices()[0].memory_stats() or {}
    if not {"bytes_limit", "bytes_in_use"} <= stats.keys():
        return None
    return Free(stats["bytes_limit"] - stats["bytes_in_use"], "free on the device")


def return_freed_memory() -> None:
    """Returns freed memory from the C library to the operating system: 700 MiB after compiling a ResNet-50's step."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def size_of(batch: Batch) -> str:
    """Height and width of the padded images, as the name of a program."""
    return "{}x{}".format(*batch.images.shape[2:4])
