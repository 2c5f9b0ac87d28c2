"""Reads zip archives and .npz files of any origin, with limits on what they unpack to."""

import io
import math
import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

MAX_RATIO = 100  # unpacked bytes for each byte of the file; float weights have less than 2
SMALL = 64 * 2**20  # bytes; an archive may unpack to this at any ratio: an array of zeros has 1,000
MAX_DIRECTORY = 16 * 2**20  # bytes of the list of members, which Python holds in ten times the memory

_END, _END_SIZE = b"PK\x05\x06", 22  # the record behind the list of members
_LARGE, _LARGE_SIZE, _LOCATOR_SIZE = b"PK\x06\x06", 56, 20  # the same for large archives, in front of it
_KINDS = "biufcU"  # numbers and texts
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@contextmanager
def open_archive(place: str | os.PathLike | io.BytesIO) -> Iterator[zipfile.ZipFile]:
    """A zip archive to read from, at a path or in memory; nothing is unpacked to disk.

    Raises ValueError or zipfile.BadZipFile if it is damaged, repeats a name, is encrypted or compressed in another way
    than by deflate, or would unpack to more than MAX_RATIO times its size.
    """
    if not isinstance(place, io.BytesIO) and os.path.exists(place) and not os.path.isfile(place):
        raise ValueError("expected a file, found a folder, device or pipe")
    with place if isinstance(place, io.BytesIO) else open(place, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        if _directory_bytes(file, size) > MAX_DIRECTORY:
            raise ValueError(f"expected a list of members of at most {MAX_DIRECTORY:,} bytes")
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if len(set(names)) < len(names):
                raise ValueError("expected every member once")
            for member in archive.infolist():
                if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError("expected members that are stored or deflated, and not encrypted")
            if unpacked_bytes(archive) > max(SMALL, MAX_RATIO * size):
                raise ValueError(f"expected at most {MAX_RATIO} bytes for each byte of the file")
            yield archive


def unpacked_bytes(archive: zipfile.ZipFile) -> int:
    """The size of all members by the list of members; `ZipFile.read` reads no more than this."""
    return sum(member.file_size for member in archive.infolist())


def read_arrays(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name; arrays of other types than numbers and texts are left out.

    Raises ValueError for a damaged file and for pickled objects.
    """
    arrays = {name.removesuffix(".npy"): _read_array(archive.read(name)) for name in archive.namelist()}
    return {name: array for name, array in arrays.items() if array is not None}


def _directory_bytes(file: io.BufferedIOBase, size: int) -> int:
    """The size of the list of members, found where zipfile looks for it."""
    start = max(0, size - 2**16 - _END_SIZE - _LARGE_SIZE - _LOCATOR_SIZE)
    file.seek(start)
    tail = file.read()
    end = len(tail) - _END_SIZE
    if end < 0 or not (tail.startswith(_END, end) and tail.endswith(b"\0\0")):
        end = tail.rfind(_END)  # a comment follows
    if end < 0 or end + _END_SIZE > len(tail):
        raise zipfile.BadZipFile("File is not a zip file")
    large = end - _LOCATOR_SIZE - _LARGE_SIZE
    if large >= 0 and tail.startswith(_LARGE, large):
        return struct.unpack_from("<Q", tail, large + 40)[0]
    return struct.unpack_from("<I", tail, end + 12)[0]


def _read_array(data: bytes) -> np.ndarray | None:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"expected a file of numpy of version 1 or 2, found {version}")
    try:
        shape, column_major, dtype = _HEADERS[version](file)
    except Exception as error:  # the header is a Python literal; too many brackets raise MemoryError, for example
        raise ValueError("expected the header of an array") from error
    if dtype.hasobject:
        raise ValueError("expected numbers, found pickled objects")
    if dtype.kind not in _KINDS:
        return None
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"expected {len(data) - file.tell()} bytes of numbers, found another shape")
    return np.frombuffer(data, dtype, math.prod(shape), file.tell()).reshape(shape, order="F" if column_major else "C")
