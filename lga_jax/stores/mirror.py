"""Copies the local workdir of a run into an object store while the run goes on."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from lga_jax.errors import UserError
from lga_jax.stores.copies import SCORE, marker, step_of
from lga_jax.stores.store import Store, StoreError
from lga_jax.terminal import say

_PERIOD = 30.0  # seconds between two passes


class _Stamp(NamedTuple):
    size: int
    changed_at: int


class Mirror:
    """A context manager: a thread copies what changed every 30 seconds, and leaving the context copies the rest.

    A checkpoint counts in the store once its last object, the list of its files, is written. Checkpoints that the run
    deleted are deleted after the newest one counts. If the store cannot be reached, training continues and the next
    pass tries again; only the last pass, at the end, raises StoreError.
    """

    def __init__(self, store: Store, folder: Path, check_lock: Callable[[], None], steps: list[int]) -> None:
        """`check_lock` raises UserError if another run took it. `steps`: the checkpoints in the folder, downloaded
        from the store.
        """
        self.is_complete = False  # whether the store holds everything
        self._store, self._folder, self._check_lock = store, folder, check_lock
        self._sent = _stamps(folder)
        self._complete = set(steps)
        self._failing = False
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._copy_until_left, daemon=True)

    def __enter__(self) -> "Mirror":
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leaving.set()
        self._thread.join()
        try:
            self.copy()
            self.is_complete = True
        except UserError as fault:
            fault = StoreError(
                f"workdir {self._store.url}",
                expected="to copy the end of the run into it",
                found=fault.found,
                remedy=f"the run is whole in {self._folder}; copy it to a safe place",
            )
            if error is None:
                raise fault from None
            say(str(fault))

    def copy(self) -> None:
        """One pass. Raises UserError if the store cannot be reached, or another run took its lock."""
        self._check_lock()
        found = _stamps(self._folder)
        steps = {step for name in found if (step := step_of(name)) is not None}
        for step in sorted(steps - self._complete):
            self._send_step(step, {name: stamp for name, stamp in found.items() if step_of(name) == step})
        for name, stamp in found.items():
            if step_of(name) is None or (step_of(name) in self._complete and name.endswith(f"/{SCORE}")):
                self._send(name, stamp)
        if steps and max(steps) in self._complete:
            self._remove_all_but(steps)

    def _send_step(self, step: int, files: dict[str, _Stamp]) -> None:
        for name, stamp in files.items():
            self._send(name, stamp)
        if any(name not in self._sent for name in files):
            return  # the run deleted the checkpoint meanwhile
        sizes = {name: stamp.size for name, stamp in files.items() if not name.endswith(f"/{SCORE}")}
        self._store.write(marker(step), json.dumps(sizes).encode())
        self._complete.add(step)

    def _send(self, name: str, stamp: _Stamp) -> None:
        path = self._folder / name
        if self._sent.get(name) == stamp or not path.exists():
            return
        self._store.upload(path, name)
        self._sent[name] = stamp

    def _remove_all_but(self, steps: set[int]) -> None:
        names = list(self._store.sizes())
        known = {step_of(name) for name in names} | self._complete
        for step in known - steps - {None}:
            self._store.remove([marker(step)])  # first: a part of a checkpoint must not count
            self._store.remove(name for name in names if step_of(name) == step)
            self._complete.discard(step)

    def _copy_until_left(self) -> None:
        while not self._leaving.wait(_PERIOD):
            try:
                self.copy()
                self._failing = False
            except UserError as fault:
                if not self._failing:
                    say(f"{fault}; training continues, and the copy is tried again")
                self._failing = True


def _stamps(folder: Path) -> dict[str, _Stamp]:
    """Size and time of the files of a run, by name. Temporary files of writers begin with a dot or are Orbax's."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.startswith(".") or "/." in name or ".orbax-checkpoint-tmp" in name:
            continue
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            found[name] = _Stamp(status.st_size, status.st_mtime_ns)
    return found
