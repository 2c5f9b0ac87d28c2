"""How much memory this process may still use, and one-line errors where it is too little."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lga_jax.errors import UserError

_LOG = logging.getLogger(__name__)

# Below these, jax or a library that it loads ends the process without an exception. The smallest detector of the tests
# needs 2.2 GiB of addresses and 0.6 GiB of memory for prediction on two cores; each core adds stacks.
LEAST_ADDRESSES = 3 * 2**30
LEAST_MEMORY = 2**30
USUAL_ADDRESSES = 16 * 2**30  # smaller limits are mentioned

_PROC, _CGROUP = Path("/proc/self"), Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_REMEDY = "lower batch_size, set images_at_once to a divisor of it, or use smaller data.buckets"
_EXHAUSTED = re.compile("RESOURCE_EXHAUSTED|out of memory|bad_alloc|Failed to allocate", re.IGNORECASE)


class Free(NamedTuple):
    """Bytes that the process may still use, and what limits them."""

    num_bytes: int
    limit: str


class OutOfMemoryError(UserError):
    """Too little memory for a computation."""


def check_limits() -> None:
    """Raises UserError if a limit on this process is too small for any training or prediction.

    Call it first: with too few addresses, imports end the process. A limit that can be too small gives a warning,
    because XLA's compiler ends the process without a message when it reaches the limit.
    """
    addresses, memory = _address_limit(), _container_limit()
    if addresses is not None and addresses < LEAST_ADDRESSES:
        raise _too_small("ulimit -v", addresses, LEAST_ADDRESSES, "raise it: ulimit -v unlimited")
    if memory is not None and memory < LEAST_MEMORY:
        raise _too_small("the memory limit of the container or job", memory, LEAST_MEMORY, "raise it")
    if addresses is not None and addresses < USUAL_ADDRESSES:
        _LOG.warning(
            "ulimit -v is %s: if the process ends with 'bad_alloc' or without a message, raise it", gib(addresses)
        )


def free_memory() -> Free | None:
    """The smallest of: addresses below `ulimit -v`, memory of the container, memory of the machine.

    None if none is known, as on systems without /proc.
    """
    return min(_known_free(), default=None)


def too_large(program: str, needed: int, free: Free) -> OutOfMemoryError:
    """The error for a program that needs more memory than there is."""
    return OutOfMemoryError(
        program,
        expected=f"a program for {gib(free.num_bytes)} of memory ({free.limit})",
        found=f"one that needs at least {gib(needed)}",
        remedy=_REMEDY,
    )


def out_of_memory(error: BaseException) -> OutOfMemoryError | None:
    """The one-line error for an exception about memory of Python, numpy, OpenCV or XLA; None for other exceptions."""
    is_of_xla = type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError") and _EXHAUSTED.search(str(error))
    if not isinstance(error, MemoryError) and not is_of_xla:
        return None
    lines = str(error).strip().splitlines() or ["MemoryError"]
    return OutOfMemoryError("memory", expected="enough", found=f"too little ({lines[0][:120]})", remedy=_REMEDY)


def gib(num_bytes: int) -> str:
    """'1.5 GiB'."""
    return f"{num_bytes / 2**30:,.1f} GiB"


def _too_small(subject: str, found: int, least: int, remedy: str) -> UserError:
    return UserError(subject, expected=f"at least {gib(least)}", found=gib(found), remedy=remedy)


def _known_free() -> Iterator[Free]:
    addresses, memory = _address_limit(), _container_limit()
    if addresses is not None and (used := _read(_PROC / "statm")):
        yield Free(addresses - int(used.split()[0]) * os.sysconf("SC_PAGE_SIZE"), "ulimit -v")
    if memory is not None:
        yield Free(memory - _container_use(), "the limit of the container or job")
    found = {name: int(size) * 1024 for name, size in re.findall(r"(\w+): +(\d+) kB", _read(_MEMINFO))}
    if "MemAvailable" in found:
        yield Free(found["MemAvailable"] + found.get("SwapFree", 0), "free on this machine")


def _address_limit() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def _container_limit() -> int | None:
    """The smallest limit of the control groups around this process."""
    return min((group.limit for group in _limited_groups()), default=None)


def _container_use() -> int:
    """The memory in use in the control group with the smallest limit, without the files that the system caches."""
    group = min(_limited_groups(), key=lambda group: group.limit)
    cached = re.search(rf"^{group.files.cached} (\d+)", _read(group.folder / "memory.stat"), re.MULTILINE)
    return int(_read(group.folder / group.files.use) or 0) - (int(cached[1]) if cached else 0)


class _Files(NamedTuple):
    """Names in a version of control groups. `cached`: in memory.stat, with the groups inside."""

    limit: str
    use: str
    cached: str


_VERSION_1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = _Files("memory.max", "memory.current", "inactive_file")
_NO_LIMIT_1 = 2**60  # version 1 writes nearly 2**63 bytes


class _Group(NamedTuple):
    limit: int
    folder: Path
    files: _Files


def _limited_groups() -> Iterator[_Group]:
    own = _read(_PROC / "cgroup")
    for root, line, files in (
        (_CGROUP, r"^0::/(.*)$", _VERSION_2),
        (_CGROUP / "memory", r"^\d+:(?:\S*,)?memory(?:,\S*)?:/(.*)$", _VERSION_1),
    ):
        found = re.search(line, own, re.MULTILINE)
        inner = root / found[1] if found else root
        for folder in (inner, *inner.parents):
            limit = _read(folder / files.limit).strip() if folder == root or root in folder.parents else ""
            if limit.isdecimal() and int(limit) < _NO_LIMIT_1:
                yield _Group(int(limit), folder, files)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
