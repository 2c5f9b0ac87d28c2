"""Prints to the terminal. Names in files may hold anything, and a terminal or a pipe may not accept it."""

import errno
import io
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tqdm import tqdm

from lga_jax.errors import escaped_lines, printable


def say(text: str) -> None:
    """Prints lines to standard output, above a progress bar if there is one. Control characters are escaped."""
    tqdm.write(escaped_lines(text))
    sys.stdout.flush()  # a signal may end the process before Python does it


@contextmanager
def safe_output() -> Iterator[list[OSError]]:
    """Inside this context, no write to standard output or standard error raises an exception.

    Characters that the stream cannot encode are written as escapes. When the reader has gone (`| head`) or the disk is
    full, the rest is dropped. The yielded list gets the error of standard output, but none for a reader that has gone.
    Streams other than Python's own, such as a notebook's, are left unchanged.
    """
    before, lost = (sys.stdout, sys.stderr), _lost_by(sys.stdout)
    sys.stdout, sys.stderr = safe_stream(sys.stdout, lost), safe_stream(sys.stderr, [])
    try:
        yield lost
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # a foreign stream
                stream.flush()
        sys.stdout, sys.stderr = before


def _lost_by(stream: Any) -> list[OSError]:
    """The list of a stream that is already safe, because an outer context made it; otherwise a new list."""
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return raw.lost if isinstance(raw, _SafeFile) else []


def safe_stream(stream: Any, lost: list[OSError]) -> Any:
    """A stream to the same file that accepts every text. A failed write adds its error to `lost`."""
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # with PYTHONUNBUFFERED there is no buffer
    if type(stream) is not io.TextIOWrapper or type(raw) is not io.FileIO:
        return stream
    with suppress(OSError):
        stream.flush()
    file = _SafeFile(raw.fileno(), lost)
    return io.TextIOWrapper(
        file if raw is buffer else io.BufferedWriter(file),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _SafeFile(io.FileIO):
    """A file descriptor that accepts everything. After a failed write it drops the rest."""

    def __init__(self, descriptor: int, lost: list[OSError]) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.lost, self._open = lost, True

    def write(self, data: bytes | memoryview) -> int | None:
        if self._open:
            try:
                return super().write(data)
            except OSError as error:
                self._open = False
                if error.errno != errno.EPIPE:
                    self.lost.append(error)
        return len(data)


def num_columns(text: str) -> int:
    """Terminal columns of a text: East Asian wide characters take two, combining accents none."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)


def shortened(name: str, columns: int) -> str:
    """A printable name in at most this many columns of the terminal."""
    name = printable(name)
    if num_columns(name) <= columns:
        return name
    while num_columns(name) >= columns:
        name = name[:-1]
    return f"{name}…"


def cell(name: str, columns: int) -> str:
    """A printable name in exactly this many columns of the terminal."""
    name = shortened(name, columns)
    return name + " " * (columns - num_columns(name))
