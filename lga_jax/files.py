"""Writing files so that what was there stays whole until it is replaced."""

import errno
import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lga_jax.errors import UserError


def remedy_for_writing(error: OSError) -> str:
    """What to do where something could not be written."""
    return "free space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "name another folder"


def make_folder(folder: str | os.PathLike) -> None:
    """Makes an output folder unless it is there. Raises UserError where nothing could be written into it.

    To be called before the hours of work whose result it is for.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            str(folder),
            expected="a folder that can be written",
            found=str(error.strerror),
            remedy=remedy_for_writing(error),
        ) from error


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Strict JSON, written beside its place and renamed into it."""
    write_atomically(path, json.dumps(content, indent=indent, allow_nan=False).encode())


def write_atomically(path: Path, data: bytes) -> None:
    """What was at `path` is replaced as a whole, or stays as it was and UserError is raised."""
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
        temporary.chmod(0o644)  # temporary files are private
        temporary.replace(path)
    except OSError as error:
        if temporary:
            temporary.unlink(missing_ok=True)
        raise UserError(
            str(path),
            expected="to write it",
            found=str(error.strerror),
            remedy=remedy_for_writing(error),
        ) from error


def null_for_nan(value: Any) -> Any:
    """The value with None for every nan in it: JSON has no nan, a reader other than Python's would refuse the file."""
    if isinstance(value, Mapping):
        return {key: null_for_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [null_for_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
