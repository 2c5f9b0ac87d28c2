"""A disk that cannot be written: one line, whichever library and thread met it first."""

import errno
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lga_jax.errors import UserError
from lga_jax.files import WriteError, remedy_for_writing

_OF_THE_DISK = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS),
    *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ESTALE),
)

# With these words TensorStore begins the text of an error. It may lack the system's: it reads again what it wrote, and
# the folder was moved meanwhile.
_STATUS = {"NOT_FOUND": errno.ENOENT, "PERMISSION_DENIED": errno.EACCES, "DATA_LOSS": errno.EIO}

_UNFINISHED = ".orbax-checkpoint-tmp"  # the end of the name of a folder that is not complete


@contextmanager
def writing_arrays(where: str) -> Iterator[None]:
    """Turns exceptions of Orbax, TensorStore and their threads about the disk into a WriteError that names `where`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause = disk_error(error)
        if cause is None:
            raise
        raise WriteError(
            where, expected="to write it", found=str(cause.strerror), remedy=remedy_for_writing(cause)
        ) from error


def disk_error(error: BaseException | None) -> OSError | None:
    """The OSError behind an exception; None if it is not about the disk.

    Libraries chain it, put it into a group, or keep only its text.
    """
    if error is None:
        return None
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
        return OSError(error.errno, os.strerror(error.errno))
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for other in (*inner, error.__cause__, error.__context__):
        if found := disk_error(other):
            return found
    text = str(error)
    number = next(
        (number for number in _OF_THE_DISK if os.strerror(number) in text), _STATUS.get(text.partition(":")[0])
    )
    return None if number is None else OSError(number, os.strerror(number))


def close_whatever_is_raised(close: Callable[[], None]) -> None:
    """Calls the `close` of a manager until it ends, so that no thread writes afterwards. Raises the first exception."""
    try:
        close()
    except Exception:
        for _ in range(3):  # Orbax stops closing at the exception of each thread
            with suppress(Exception):
                close()
                break
        raise


def remove_unfinished(directory: str) -> None:
    """Removes what an ended or failed save left.

    After a failed save, threads of TensorStore may still write there for a moment, so it is tried for up to a second.
    """
    for folder in Path(directory).glob(f"*{_UNFINISHED}"):
        for _ in range(20):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(0.05)


def remove_second_folder(directory: str) -> None:
    """After the workdir was moved away: TensorStore creates its folders again for what it still writes.

    They would be in the way when the workdir is moved back. Removes them for a second, unless the workdir at the old
    place has anything else: then it is another run.
    """
    workdir = os.path.dirname(directory)
    for _ in range(10):
        with suppress(OSError):
            unfinished = [name.endswith(_UNFINISHED) for name in os.listdir(directory)]
            if os.listdir(workdir) == [os.path.basename(directory)] and unfinished and all(unfinished):
                remove_unfinished(directory)
                os.rmdir(directory)
                os.rmdir(workdir)
        time.sleep(0.1)


def _keep(record: logging.LogRecord) -> bool:
    if record.getMessage().startswith("Metadata file does not exist"):  # the folder was moved; an error follows
        return False
    of_orbax = f"{os.sep}orbax{os.sep}" in record.pathname
    if of_orbax and record.levelno <= logging.WARNING and record.thread != threading.main_thread().ident:
        return False  # of a folder that was moved, or of a slow disk; if the save fails, an error follows
    if not record.exc_info:
        return True
    if record.name == "asyncio":  # a task that nobody asked for its result, because another one failed first
        return disk_error(record.exc_info[1]) is None
    return not of_orbax


def hide_tracebacks_of_orbax() -> None:
    """Leaves out what Orbax prints about an exception, which is raised and becomes one line; and its threads' warnings.

    For the rest of the process, because a thread may print after the manager is closed.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_keep)
    if not isinstance(sys.unraisablehook, _Unraisable):
        sys.unraisablehook = _Unraisable(sys.unraisablehook)


class _Unraisable:
    """TensorStore tells an event loop about the end of a write after the error of another write has closed the loop."""

    def __init__(self, before: Callable[[Any], Any]) -> None:
        self._before = before

    def __call__(self, unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            self._before(unraisable)


def folder_identity(folder: str) -> tuple[int, int] | None:
    """Device and inode: a folder keeps them when it is moved. None if it does not exist."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino
