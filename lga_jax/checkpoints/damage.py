"""Damage: what is wrong with a checkpoint's files, apart from a disk that does not answer."""

import hashlib

import jax
import numpy as np
from jaxtyping import PyTree

from lga_jax.errors import UserError

# TensorStore raises ValueErrors that begin with a status. These say that the disk does not answer.
_OF_THE_DISK = ("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "UNKNOWN")


def digest(tree: PyTree) -> str:
    """SHA-256 over names and bytes of a tree of numpy arrays: Orbax restores a flipped bit without an error."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        sha.update(f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}".encode())
        sha.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8))
    return sha.hexdigest()


def verify(tree: PyTree, expected: str) -> None:
    """Raises ValueError where the arrays are not those that were saved."""
    if digest(tree) != expected:
        raise ValueError("its bytes do not have the digest they were saved with")


def raise_unless_damage(error: Exception, where: str) -> None:
    """Returns where reading failed because the files are damaged.

    Raises UserError for a disk or rights that do not allow reading, and MemoryError: they say nothing about the files.
    """
    if isinstance(error, MemoryError):
        raise error
    of_the_disk = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
    if of_the_disk or str(error).startswith(_OF_THE_DISK):
        raise UserError(
            where,
            expected="to read it",
            found=first_line(error),
            remedy="check the disk and the rights, then try again",
        ) from error


def first_line(error: Exception) -> str:
    """The kind of an exception and the beginning of its text."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120] if str(error).strip() else ''}"
