"""Checkpoints in an object store, and local copies of what commands read.

FOLDER/checkpoints/<step>/...            the files of a checkpoint
FOLDER/checkpoints/<step>.complete       their sizes; written last, so without it the checkpoint does not count
"""

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from lga_jax.stores.place import is_url
from lga_jax.stores.store import Store, StoreError

_LOGS = ("metrics.jsonl", "trackers.json")
_TRIAL = ".writable"
SCORE = "score.json"  # may be written after the checkpoint counts, so not among its sizes


def marker(step: int) -> str:
    """The name of the object that makes a checkpoint count."""
    return f"checkpoints/{step}.complete"


def step_of(name: str) -> int | None:
    """The step of a file of a checkpoint; None for other files."""
    found = re.match(r"checkpoints/([0-9]+)/", name)
    return int(found[1]) if found else None


def complete_steps(store: Store, sizes: Mapping[str, int]) -> list[int]:
    """The checkpoints of which all files are there, in order. `sizes`: those of all objects."""
    steps = (int(found[1]) for name in sizes if (found := re.fullmatch(r"checkpoints/([0-9]+)\.complete", name)))
    return sorted(step for step in steps if _is_complete(store.read(marker(step)), sizes))


def _is_complete(content: bytes | None, sizes: Mapping[str, int]) -> bool:
    try:
        return all(sizes.get(name) == size for name, size in json.loads(content or "null").items())
    except (ValueError, AttributeError, RecursionError):  # not the content that a run writes
        return False


def fetch_run(store: Store, folder: Path) -> list[int]:
    """Downloads what a run continues from: complete checkpoints, metrics, ids of trackers. Returns the steps."""
    sizes = store.sizes()
    steps = complete_steps(store, sizes)
    for name in sizes:
        if step_of(name) in steps or name in _LOGS:
            store.download(name, folder / name)
    return steps


@contextmanager
def checkpoints_to_read(workdir: str) -> Iterator[tuple[str, Callable[[int], None]]]:
    """A local workdir with a folder and score for each checkpoint, and a function that fetches the rest of one.

    For a local workdir: itself, and a function without effect. Parts that only training needs stay in the store.
    """
    if not is_url(workdir):
        yield workdir, lambda step: None
        return
    store = Store(workdir)
    sizes = store.sizes()
    with temporary_folder() as folder:
        for step in complete_steps(store, sizes):
            (folder / "checkpoints" / str(step)).mkdir(parents=True)
            _fetch(store, folder, [name for name in sizes if name == f"checkpoints/{step}/{SCORE}"])

        def fetch(step: int) -> None:
            parts = re.compile(rf"checkpoints/{step}/(?!optimizer/|data/).*")
            _fetch(store, folder, filter(parts.fullmatch, sizes))

        yield str(folder), fetch


@contextmanager
def files_to_read(workdir: str, *names: str) -> Iterator[str]:
    """A local folder with these files, if they exist; `*` in a name is any text. For a local workdir: itself."""
    if not is_url(workdir):
        yield workdir
        return
    store = Store(workdir)
    with temporary_folder() as folder:
        _fetch(store, folder, (name for name in store.sizes() if any(fnmatchcase(name, wanted) for wanted in names)))
        yield str(folder)


def state_of_files(workdir: str, *names: str) -> dict[str, int]:
    """A number for each of these files that changes with the file: its size in a store, its time in a local workdir."""
    if is_url(workdir):
        sizes = Store(workdir).sizes()
        return {name: size for name, size in sizes.items() if any(fnmatchcase(name, wanted) for wanted in names)}
    return {str(path): path.stat().st_mtime_ns for name in names for path in Path(workdir).glob(name)}


@contextmanager
def results_folder(place: str) -> Iterator[str]:
    """A local folder whose files are uploaded when the context ends without an exception. A local `place`: itself.

    Raises StoreError at once if the store cannot be written.
    """
    if not is_url(place):
        yield place
        return
    store = Store(place)
    store.write(_TRIAL, b"")
    store.remove([_TRIAL])
    folder = Path(tempfile.mkdtemp(prefix="lga_jax-"))
    yield str(folder)
    try:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            store.upload(path, path.relative_to(folder).as_posix())
    except StoreError as error:
        raise StoreError(
            store.url, expected="to copy the results into it", found=error.found, remedy=f"they are in {folder}"
        ) from error
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder in $TMPDIR, which is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="lga_jax-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetch(store: Store, folder: Path, names: Iterable[str]) -> None:
    for name in names:
        store.download(name, folder / name)
