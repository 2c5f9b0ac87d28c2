"""Runs whose workdir is in an object store."""

import logging
import signal
import socket
import subprocess
import sys
from pathlib import Path

import gcsfs
import numpy as np
import pytest
from gcp_storage_emulator.server import create_server

from lga_jax.checkpoints.read import latest_step, restore_params
from lga_jax.stores.store import Store, StoreError
from lga_jax.training.run import open_run, train
from tests.faults import refused
from tests.stores.memory import URL, bucket, names  # noqa: F401  (a fixture)
from tests.training.stubs import install, signal_at_step, stub_config


def contents(workdir):
    """Digests of the latest checkpoint, and the lines of metrics.jsonl."""
    saved = restore_params(workdir, "latest")
    digests = {name: value for name, value in saved.manifest["digests"].items() if name != "manifest"}
    log = Store(URL).read("metrics.jsonl") if workdir == URL else Path(workdir, "metrics.jsonl").read_bytes()
    return saved.step, digests, log


def test_a_stopped_run_continues_as_with_a_local_folder(bucket, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    install(monkeypatch, before_step=signal_at_step(signal.SIGTERM, 4))
    assert train(stub_config(), URL) == signal.SIGTERM
    assert latest_step(URL) == 4
    install(monkeypatch)
    assert train(stub_config(), URL) is None
    assert list(tmp_path.iterdir()) == []  # neither a folder `gs:` nor a local copy is left
    train(stub_config(), "local")
    assert contents(URL) == contents("local")
    local = sorted(path.name for path in Path("local", "checkpoints").iterdir())
    assert sorted({name.split("/")[1] for name in names(bucket) if name.startswith("checkpoints/")}) == sorted(
        [*local, *(f"{step}.complete" for step in local)]
    )
    assert any(name.startswith("tensorboard/events") for name in names(bucket))
    assert ".lock" not in names(bucket)
    variables = [restore_params(workdir).variables["params"]["conv"]["kernel"] for workdir in (URL, "local")]
    np.testing.assert_array_equal(*variables)


def test_a_damaged_checkpoint_is_kept_and_the_one_before_it_continues(bucket, tmp_path, monkeypatch, capsys):  # noqa: F811
    install(monkeypatch)
    train(stub_config(num_steps=4), URL)
    name = next(name for name in names(bucket) if name.startswith("checkpoints/4/variables/") and "/d/" in name)
    content = bytearray(Store(URL).read(name))
    content[len(content) // 2] ^= 1
    Store(URL).write(name, bytes(content))
    train(stub_config(), URL)
    assert "resuming from step 3" in capsys.readouterr().out
    assert latest_step(URL) == 6
    assert any(name.startswith("checkpoints/4.damaged/") for name in names(bucket))


def test_an_unknown_store_is_refused_before_anything_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused("workdir", "ftp://host/run"), open_run("no such recipe", "ftp://host/run"):
        pytest.fail("not refused")
    assert list(tmp_path.iterdir()) == []


def test_without_the_store_training_goes_on_and_its_end_stays_local(bucket, tmp_path, monkeypatch):  # noqa: F811
    install(monkeypatch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def unreachable(store, path, name):
        raise StoreError(store.url, found="ConnectionError")

    with refused(f"workdir {URL}", "ConnectionError") as caught, open_run(stub_config(num_steps=2), URL) as run:
        monkeypatch.setattr(Store, "upload", unreachable)
        for _ in run:
            pass
    (kept,) = tmp_path.iterdir()
    assert str(kept / "a") in caught.value.remedy
    assert restore_params(str(kept / "a"), "latest").step == 2


@pytest.fixture
def google(monkeypatch, tmp_path):
    """A server that speaks Google's protocol, for other processes too."""
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    folder = tmp_path / "google"
    folder.mkdir()
    with create_server("localhost", 0, data_dir=str(folder), default_bucket="bucket") as server:
        monkeypatch.setenv(
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false"
        )  # asks Google itself for the kind of the bucket
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://localhost:{server._api._httpd.server_port}")
        yield
    gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.mark.slow
def test_two_processes_without_a_common_folder(google, tmp_path, monkeypatch):
    """Two steps in one process and the rest in two, against all in one with a local folder."""
    install(monkeypatch)
    train(stub_config(num_steps=2), URL)
    said = _run_two()
    train(stub_config(), str(tmp_path / "local"))
    ours, theirs = restore_params(URL, "latest"), restore_params(str(tmp_path / "local"), "latest")
    assert ours.step == theirs.step == 6, said
    np.testing.assert_allclose(*(saved.variables["params"]["conv"]["kernel"] for saved in (ours, theirs)), rtol=1e-6)


def _run_two():
    """What both processes printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        join = ("--coordinator", str(free.getsockname()[1]), "--num_processes", "2", "--process_id")
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.stubs", URL, *join, number],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in ("0", "1")
    ]
    said = "\n".join(process.communicate(timeout=600)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0], said
    return said
