"""Tells damaged checkpoint files from a disk that cannot be read."""

import hashlib
import json
import math
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from lga_jax.archives import MAX_RATIO, SMALL
from lga_jax.errors import UserError, printable

# TensorStore raises ValueErrors that begin with a status. These mean that the disk cannot be read.
_DISK_STATUS = ("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "UNKNOWN")


def digest(tree: PyTree) -> str:
    """SHA-256 of the names and bytes of a tree of numpy arrays. Orbax restores a flipped bit without an error."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        sha.update(f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}".encode())
        sha.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8))
    return sha.hexdigest()


def json_digest(content: Any) -> str:
    """SHA-256 of JSON content; neither spaces nor the order of keys matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def verify(tree: PyTree, expected: str) -> None:
    """Raises ValueError if the digest of the arrays is not `expected`, the digest at the time of saving."""
    if digest(tree) != expected:
        raise ValueError("the digest of the arrays differs from the saved digest")


def check_regular(place: Path) -> None:
    """Raises ValueError if it is, or contains, something else than files and folders: a pipe is read without end."""
    for path in (place, *place.rglob("*")):
        if not path.is_file() and not path.is_dir():
            raise ValueError(f"{path.name} is no file")


def check_claims(item: Path) -> None:
    """Raises ValueError if the arrays of an item, by their metadata, are far larger than its files.

    Restoring allocates the arrays and their chunks before it reads them.
    """
    tree = ocp.StandardCheckpointHandler().metadata(item)
    arrays = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape")]
    claimed = sum(max(math.prod(leaf.shape), _chunk_size(leaf)) * np.dtype(leaf.dtype).itemsize for leaf in arrays)
    stored = sum(file.stat().st_size for file in item.rglob("*") if file.is_file())
    if claimed > max(SMALL, MAX_RATIO * stored):
        raise ValueError(f"its metadata claim {claimed:,} bytes of arrays, its files have {stored:,} bytes")


def _chunk_size(leaf: Any) -> int:
    return math.prod(leaf.storage.chunk_shape or ()) if leaf.storage else 1


def raise_unless_damage(error: Exception, where: str) -> None:
    """Returns if `error` means that the files are damaged.

    Raises UserError if the disk or the permissions do not allow reading, and MemoryError: the files may be intact.
    """
    if isinstance(error, MemoryError):
        raise error
    # A damaged type of an array ends Orbax before it awaits the coroutines of the others. Python would warn of them
    # beside the one line of the error.
    warnings.filterwarnings("ignore", "coroutine '.*' was never awaited", RuntimeWarning)
    is_disk_error = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
    if is_disk_error or str(error).startswith(_DISK_STATUS):
        raise UserError(
            where,
            expected="readable files",
            found=first_line(error),
            remedy="check the disk and the permissions, then try again",
        ) from error


def first_line(error: Exception) -> str:
    """The type of an exception and the first line of its text."""
    return f"{type(error).__name__}: {printable(str(error).strip().splitlines()[0], 120) if str(error).strip() else ''}"
