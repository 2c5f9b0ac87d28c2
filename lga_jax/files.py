"""Writes files atomically: an existing file stays intact until it is replaced."""

import errno
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lga_jax.errors import UserError


class WriteError(UserError):
    """A file or folder that could not be written: a full disk, a quota, missing rights, a failing disk."""


_REMEDIES = {
    errno.ENOSPC: "free space",
    errno.EDQUOT: "free space",
    errno.EFBIG: "raise the limit on file sizes",
    errno.EIO: "check the disk",
    errno.EROFS: "make the file system writable",
}


def remedy_for_writing(error: OSError) -> str:
    """The remedy for a failed write."""
    return _REMEDIES.get(error.errno, "name another folder")


@contextmanager
def writing(path: str | os.PathLike, expected: str = "a file that can be written") -> Iterator[None]:
    """Turns an OSError into a WriteError that names `path`."""
    try:
        yield
    except OSError as error:
        found = str(error.strerror or error)
        raise WriteError(str(path), expected=expected, found=found, remedy=remedy_for_writing(error)) from error


def make_folder(folder: str | os.PathLike) -> None:
    """Creates an output folder if it does not exist. Raises WriteError if files cannot be written into it.

    Call it before long computations.
    """
    with writing(folder, "a folder that can be written"):
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def check_free(output: str) -> None:
    """Raises UserError if the output folder exists and has files, or is a file."""
    path = Path(output)
    if path.is_file():
        raise UserError(
            f"--output {output}",
            expected="a folder",
            found="a file",
            remedy="name another folder",
        )
    if path.is_dir() and any(path.iterdir()):
        raise UserError(
            f"--output {output}",
            expected="a new or empty folder",
            found="a folder with files",
            remedy="name another folder",
        )


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Writes strict JSON atomically."""
    write_atomically(path, json.dumps(content, indent=indent, allow_nan=False).encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces the file at `path`, or leaves it unchanged and raises WriteError. A link is replaced, not followed."""
    temporary = None
    with writing(path):
        try:
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
                temporary = Path(file.name)
                file.write(data)
            temporary.chmod(0o644)  # temporary files are private
            temporary.replace(path)
        except OSError:
            if temporary:
                temporary.unlink(missing_ok=True)
            raise


class Appending:
    """A file that grows. What `write` returned from is in the hands of the operating system; links are not followed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with writing(path):
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644)

    def write(self, data: bytes) -> None:
        """Appends. Raises WriteError; then a part of `data` may be in the file."""
        with writing(self._path):
            while data:  # a disk that becomes full takes a part first
                data = data[os.write(self._file, data) :]

    def close(self) -> None:
        """Closes the file. Raises WriteError if the disk reports a failed write only now."""
        with writing(self._path):
            os.close(self._file)


def unused_path(path: Path) -> Path:
    """`path`, or with -2, -3, ... behind its name the first that does not exist."""
    names = (path, *(path.with_name(f"{path.name}-{number}") for number in range(2, 10_000)))
    return next(candidate for candidate in names if not os.path.lexists(candidate))


def null_for_nan(value: Any) -> Any:
    """Replaces every nan by None, because strict JSON has no nan."""
    if isinstance(value, Mapping):
        return {key: null_for_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [null_for_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
