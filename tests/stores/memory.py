"""A Google bucket in the memory of this process, and a run that is copied there."""

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from lga_jax.stores.mirror import Mirror
from lga_jax.stores.store import Store

URL = "gs://bucket/runs/a"


class Bucket(MemoryFileSystem):
    protocol = "gs"

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("gs://", "memory://", 1))


@pytest.fixture
def bucket(monkeypatch):
    """Content by name. Changes of the dict change the store."""
    monkeypatch.setattr(Bucket, "store", {})
    monkeypatch.setattr(Bucket, "pseudo_dirs", [""])
    # register_implementation has no way back: the registered class would stay for later tests.
    monkeypatch.setitem(_registry, "gs", Bucket)
    yield Bucket.store
    Bucket.clear_instance_cache()


def names(bucket):
    """Names of the objects of URL."""
    return sorted(name.removeprefix("/bucket/runs/a/") for name in bucket if name.startswith("/bucket/runs/a/"))


def locked():
    """The check of a lock that is still held."""


def checkpoint(folder, step):
    for name in ("variables/d/a", "optimizer/b", "data/c", "manifest/m"):
        path = folder / "checkpoints" / str(step) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} of {step}")


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def run(bucket, tmp_path):
    """(mirror, folder) of a run with two checkpoints, one of them scored."""
    folder = tmp_path / "run"
    folder.mkdir()
    mirror = Mirror(Store(URL), folder, locked, [])
    checkpoint(folder, 1)
    checkpoint(folder, 2)
    (folder / "checkpoints" / "1" / "score.json").write_text("0.5")
    (folder / "metrics.jsonl").write_text("line\n")
    return mirror, folder
