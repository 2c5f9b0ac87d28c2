import logging

import gcsfs
import pytest
from gcp_storage_emulator.server import create_server

from lga_jax.stores.store import Store, StoreError
from tests.faults import refused
from tests.stores.memory import URL, names


def test_objects(bucket, tmp_path):
    store = Store(f"{URL}/")
    store.write("a", b"12")
    assert store.create("b/c", b"3")
    assert not store.create("b/c", b"4")
    assert store.read("b/c") == b"3"
    assert store.read("d") is None
    (tmp_path / "f").write_bytes(b"5678")
    store.upload(tmp_path / "f", "checkpoints/1/f")
    assert store.sizes() == {"a": 2, "b/c": 1, "checkpoints/1/f": 4}
    store.download("checkpoints/1/f", tmp_path / "new" / "f")
    assert (tmp_path / "new" / "f").read_bytes() == b"5678"
    store.remove(["a", "a", "b/c"])
    assert names(bucket) == ["checkpoints/1/f"]


def test_names_that_lead_out_of_a_folder_are_left_out(bucket):
    store = Store(URL)
    for name in ("a/../../b", "..", "./c", "d//e", "f"):
        store.write(name, b"")
    assert store.sizes() == {"f": 0}


def test_a_store_that_fails_is_one_line(bucket, monkeypatch):
    store = Store(URL)
    monkeypatch.setattr(store._files, "cat_file", lambda name: (_ for _ in ()).throw(PermissionError("no\nentry")))
    with refused(URL, "PermissionError: no") as error:
        store.read("a")
    assert isinstance(error.value, StoreError)
    assert "\n" not in str(error.value)


@pytest.fixture
def google(monkeypatch, tmp_path):
    """A server that speaks Google's protocol, in this process, with the bucket `bucket`."""
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    with create_server("localhost", 0, data_dir=str(tmp_path), default_bucket="bucket") as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://localhost:{server._api._httpd.server_port}")
        yield
        gcsfs.GCSFileSystem.clear_instance_cache()


def test_the_protocol_of_google(google, tmp_path):
    store = Store(URL)
    assert store.sizes() == {}
    (tmp_path / "f").write_bytes(bytes(range(256)) * 100)
    store.upload(tmp_path / "f", "checkpoints/1/f")
    store.write("a", b"1")
    store.write("a", b"23")
    assert store.create("b", b"")
    assert store.sizes() == {"a": 2, "b": 0, "checkpoints/1/f": 25_600}
    store.download("checkpoints/1/f", tmp_path / "new" / "f")
    assert (tmp_path / "new" / "f").read_bytes() == (tmp_path / "f").read_bytes()
    store.remove(["a", "c"])
    assert store.read("a") is None
    assert store.sizes().keys() == {"b", "checkpoints/1/f"}
