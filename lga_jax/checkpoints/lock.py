"""A lock on a workdir: one run at a time writes into it. Reading needs no lock.

The file also shows the processes of a run that they use the same workdir: process 0 writes a token that they share.
"""

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import jax

from lga_jax.errors import UserError, printable
from lga_jax.files import make_folder, writing
from lga_jax.processes.join import compare, joined
from lga_jax.terminal import say

LOCK_FILE = ".lock"

_HELD = (errno.EWOULDBLOCK, errno.EACCES)  # errors if another process has the lock
_NOT_SUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)

_SHARED = "of process 0"  # for comparison
_TOKEN_LIMIT = 60.0  # seconds; NFS shows a new file to other machines after up to 60 s


@contextmanager
def lock_workdir(workdir: str | os.PathLike) -> Iterator[None]:
    """Holds WORKDIR/.lock, and creates the workdir if it does not exist.

    Process 0 holds the lock for all processes of a run. The operating system releases it when the process ends, also
    after a crash. A file system without locks is reported, and the run continues without one. If an exception ends the
    context while the workdir holds only a lock that this call created, the lock and the created folders are removed.
    Raises UserError if another run holds the lock, if the workdir cannot be written, or if it is not the workdir of
    process 0.
    """
    path = Path(workdir, LOCK_FILE).absolute()
    if jax.process_index() != 0:
        compare("workdir", lambda: {"workdir": _wait_for_token(path, workdir)})
        yield
        return
    created = [] if path.exists() else [path, *(folder for folder in path.parents if not folder.exists())]
    make_folder(workdir)
    file = _open(path)
    try:
        _lock(file, path, workdir)
        try:
            compare("workdir", lambda: {"workdir": _SHARED})
            yield
        except BaseException:
            _remove_if_unused(created)
            raise
    finally:
        os.close(file)


def _remove_if_unused(created: Sequence[Path]) -> None:
    """Removes a new lock and new folders, the innermost first, if the workdir holds nothing else.

    Another exception ends the run at this time: an OSError, because the workdir is gone, must not hide it.
    """
    with suppress(OSError):
        if created and os.listdir(created[0].parent) == [LOCK_FILE]:
            created[0].unlink()
            for folder in created[1:]:
                folder.rmdir()


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise UserError(
            str(path), expected="a file that can be written", found=str(error.strerror), remedy="remove it"
        ) from error


def _lock(file: int, path: Path, workdir: str | os.PathLike) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            raise UserError(
                f"workdir {workdir}",
                expected="a workdir that no other run uses",
                found=f"one in use by {_holder(file)}",
                remedy="wait until that run ends, stop it, or give another workdir",
            ) from None
        if error.errno not in _NOT_SUPPORTED:
            raise UserError(str(path), expected="a file that can be locked", found=str(error.strerror)) from error
        say(f"{path}: this file system has no locks; start no second run in this workdir")
    if os.fstat(file).st_nlink == 0:  # another process removed it between _open and flock
        raise UserError(str(path), expected="a lock file", found="one that was just removed", remedy="start again")
    with writing(path):
        os.ftruncate(file, 0)
        os.pwrite(file, f"{own_name()}\n{_token()}".encode(), 0)
        os.fsync(file)  # other machines read it


def own_name() -> str:
    """This process, for the message of another one that finds its lock."""
    return f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _holder(file: int) -> str:
    """The text of the process with the lock; it may be incomplete."""
    text = os.pread(file, 200, 0).decode(errors="replace")
    return printable(text.partition("\n")[0]) or "another process"


def _token() -> str:
    member = joined()
    return member.token if member else ""


def _wait_for_token(path: Path, workdir: str | os.PathLike) -> str:
    """_SHARED, or the name of this workdir if process 0 did not write its token into it."""
    end = time.monotonic() + _TOKEN_LIMIT
    while _token_in(path) != _token():
        if time.monotonic() > end:
            return os.path.abspath(workdir)
        time.sleep(0.05)
    return _SHARED


def _token_in(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").partition("\n")[2]
    except OSError:
        return None
