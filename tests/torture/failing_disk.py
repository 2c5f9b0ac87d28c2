"""Builds failing_disk.c, a disk whose writes fail, as a library to preload into processes."""

import shutil
import subprocess
from pathlib import Path


def failing_disk(folder: Path) -> Path | None:
    """The library; None without a C compiler."""
    compiler, library = shutil.which("cc"), folder / "failing_disk.so"
    if compiler and not library.exists():
        source = Path(__file__).with_suffix(".c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library if compiler else None
