"""A lock in an object store: one run at a time writes into a workdir.

A store releases nothing when a process ends. The run that holds the object .lock therefore writes it again and again,
and a lock that nobody writes any more may be taken.
"""

import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType

from lga_jax.errors import UserError, printable
from lga_jax.stores.store import Store, StoreError
from lga_jax.terminal import say

LOCK = ".lock"
_PERIOD = 20.0  # seconds between two writes
_LIMIT = 90.0  # seconds without a write, after which a lock counts as abandoned


class Lease:
    """Holds the lock of a store as a context manager. Raises UserError if another run holds it.

    `check` raises it if another run took the lock, which is possible after 90 seconds without the network.
    """

    def __init__(self, store: Store, holder: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._store, self._holder, self._sleep = store, holder, sleep
        self._token = uuid.uuid4().hex
        self._count = 0
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_left, daemon=True)

    def __enter__(self) -> "Lease":
        if not self._store.create(LOCK, self._content()):
            self._wait_for_the_other()
        self.check()  # a store that ignores "create only if new" still shows the last writer
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leaving.set()
        self._thread.join()
        try:
            if self._is_ours():
                self._store.remove([LOCK])
        except StoreError as fault:  # the next run waits until the lock counts as abandoned
            say(str(fault))

    def check(self) -> None:
        """Raises UserError if the lock is not ours."""
        if not self._is_ours():
            raise self._in_use()

    def renew(self) -> None:
        """Writes the lock, if it is ours."""
        if self._is_ours():
            self._count += 1
            self._store.write(LOCK, self._content())

    def _is_ours(self) -> bool:
        return self._token.encode() in (self._store.read(LOCK) or b"")

    def _content(self) -> bytes:
        return f"{self._holder}\n{self._token}\n{self._count}\n".encode()

    def _wait_for_the_other(self) -> None:
        before = self._store.read(LOCK)
        limit = f"{_LIMIT:.0f} s"
        say(f"{self._store.url}: the lock of {_holder(before)}; waits {limit} to see whether that run still works")
        self._sleep(_LIMIT)
        if self._store.read(LOCK) == before:
            self._store.remove([LOCK])
        if not self._store.create(LOCK, self._content()):
            raise self._in_use()

    def _in_use(self) -> UserError:
        return UserError(
            f"workdir {self._store.url}",
            expected="a workdir that no other run uses",
            found=f"one in use by {_holder(self._store.read(LOCK))}",
            remedy="wait until that run ends, stop it, or give another workdir",
        )

    def _renew_until_left(self) -> None:
        while not self._leaving.wait(_PERIOD):
            try:
                self.renew()
            except StoreError:  # the copy of the workdir reports it; the next write may succeed
                continue


def _holder(content: bytes | None) -> str:
    text = (content or b"").decode(errors="replace").partition("\n")[0]
    return printable(text) or "another process"
