"""A folder in which JAX keeps compiled programs, so that a process that starts again does not compile again."""

import hashlib
import os
from collections.abc import MutableMapping
from pathlib import Path

FOLDER, SIZE = "JAX_COMPILATION_CACHE_DIR", "JAX_COMPILATION_CACHE_MAX_SIZE"
_MOST_BYTES = 2**31  # JAX removes the programs that were not used for the longest time


def keep_programs(environ: MutableMapping[str, str] = os.environ) -> None:
    """Names a folder in the user's cache folder to JAX, in variables that JAX reads when it is imported.

    JAX_COMPILATION_CACHE_DIR, if it is set, names another folder; empty, it switches this off. Nothing is kept without
    a folder that can be written.
    """
    if FOLDER in environ:
        return
    try:
        caches = Path(environ.get("XDG_CACHE_HOME") or Path(environ["HOME"], ".cache"))
        if not caches.is_absolute():  # some containers have an empty HOME
            return
        folder = caches / "lga_jax" / "compiled" / _processor()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, KeyError):
        return
    if os.access(folder, os.W_OK):
        environ[FOLDER] = str(folder)
        environ.setdefault(SIZE, str(_MOST_BYTES))


def _processor() -> str:
    """A name for the instructions of this processor, which JAX's keys lack: other machines may share the folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(" ".join(sorted(flags.split())).encode()).hexdigest()[:12]
