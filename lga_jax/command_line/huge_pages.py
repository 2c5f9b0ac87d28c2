"""Memory in pages of 2 MiB for a script.

On a CPU, XLA takes the memory of a program from the system at each call and returns it afterwards. In pages of 4 KiB, a
training step of a small detector then has 82,000 page faults, a fifth of its time (docs/performance.md). The C library
decides about pages when a process starts. So a script starts itself again, with the same process number.
"""

import os
import sys

_TUNABLES, _PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
_MARK = "LGA_JAX_STARTED_AGAIN"  # GLIBC_TUNABLES does not reach a Python with capabilities of its own
_SYSTEM = "/sys/kernel/mm/transparent_hugepage/enabled"
# With one of these, the process is no script that has just started, but a program, its child, a notebook or a debugger.
_OTHERS = {"jax", "numpy", "multiprocessing", "IPython", "bdb", "pydevd"}


def use_huge_pages() -> None:
    """Starts the script again with this setting of the C library, where it helps. Otherwise does nothing.

    Only a script that has done nothing else may call it. GLIBC_TUNABLES=glibc.malloc.hugetlb=0 switches it off.
    """
    given = os.environ.get(_TUNABLES, "")
    if _MARK in os.environ or _PAGES in given or not _has_just_started() or not _helps():
        return
    environ = {**os.environ, _TUNABLES: f"{given}:{_PAGES}=1".lstrip(":"), _MARK: "1"}
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)
    except OSError:
        return


def _has_just_started() -> bool:
    is_script = bool(sys.executable) and os.path.isfile(getattr(sys.modules["__main__"], "__file__", ""))
    return is_script and not hasattr(sys, "ps1") and sys.gettrace() is None and not _OTHERS & sys.modules.keys()


def _helps() -> bool:
    """Whether the C library knows the setting (glibc 2.35) and the system gives huge pages only to those who ask."""
    try:
        name, version = os.confstr("CS_GNU_LIBC_VERSION").split()
        with open(_SYSTEM) as file:
            asks = "[madvise]" in file.read()
    except (OSError, ValueError, AttributeError):  # another system or C library
        return False
    return name == "glibc" and tuple(map(int, version.split(".")[:2])) >= (2, 35) and asks
