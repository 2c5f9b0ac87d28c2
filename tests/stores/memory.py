"""A Google bucket in the memory of this process."""

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

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
    fsspec.register_implementation("gs", Bucket, clobber=True)
    yield Bucket.store
    fsspec.register_implementation("gs", "gcsfs.GCSFileSystem", clobber=True)
    Bucket.clear_instance_cache()


def names(bucket):
    """Names of the objects of URL."""
    return sorted(name.removeprefix("/bucket/runs/a/") for name in bucket if name.startswith("/bucket/runs/a/"))
