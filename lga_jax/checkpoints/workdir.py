"""The folder in which a run works: its workdir, or a local copy of one in an object store."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from lga_jax.checkpoints.lock import lock_workdir, own_name
from lga_jax.processes.join import compare
from lga_jax.stores.copies import fetch_run, temporary_folder
from lga_jax.stores.lease import Lease
from lga_jax.stores.mirror import Mirror
from lga_jax.stores.place import is_url
from lga_jax.stores.store import Store


@contextmanager
def open_workdir(workdir: str) -> Iterator[str]:
    """Locks a workdir and yields the local folder to read and write.

    For gs://BUCKET/FOLDER and s3://BUCKET/FOLDER this is a new folder in $TMPDIR, in each process. It begins with the
    checkpoints and metrics of the store, and process 0 copies what changes into the store. Object stores can neither
    append to a file nor rename a folder, and TensorBoard, metrics.jsonl and Orbax need both.

    Raises UserError if another run holds the lock, the workdir cannot be read and written, or processes have different
    workdirs.
    """
    if not is_url(workdir):
        with lock_workdir(workdir):
            yield workdir
    elif jax.process_index() == 0:
        with _first_process(Store(workdir)) as folder:
            yield folder
    else:
        with temporary_folder() as folder:
            _fetch(Store(workdir), folder)
            yield str(folder)


@contextmanager
def _first_process(store: Store) -> Iterator[str]:
    with Lease(store, own_name()) as lease:
        temporary, mirror = Path(tempfile.mkdtemp(prefix="lga_jax-")), None
        folder = temporary / store.url.rpartition("/")[2]  # trackers name the run after its folder
        folder.mkdir()
        try:
            mirror = Mirror(store, folder, lease.check, _fetch(store, folder))
            with mirror:
                yield str(folder)
        finally:
            if mirror is None or mirror.is_complete:
                shutil.rmtree(temporary, ignore_errors=True)


def _fetch(store: Store, folder: Path) -> list[int]:
    compare("workdir", lambda: {"workdir": store.url})  # process 0 calls it with the lock
    steps = fetch_run(store, folder)
    compare("checkpoints of the workdir", lambda: {"steps": steps})  # before process 0 deletes one
    return steps
