"""Writes files atomically: an existing file stays intact until it is replaced."""

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
    """The remedy for a failed write."""
    return "free space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "name another folder"


def make_folder(folder: str | os.PathLike) -> None:
    """Creates an output folder if it does not exist. Raises UserError if files cannot be written into it.

    Call it before long computations.
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
    """Writes strict JSON atomically."""
    write_atomically(path, json.dumps(content, indent=indent, allow_nan=False).encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces the file at `path`, or leaves it unchanged and raises UserError."""
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
            expected="a file that can be written",
            found=str(error.strerror),
            remedy=remedy_for_writing(error),
        ) from error


def null_for_nan(value: Any) -> Any:
    """Replaces every nan by None, because strict JSON has no nan."""
    if isinstance(value, Mapping):
        return {key: null_for_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [null_for_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
