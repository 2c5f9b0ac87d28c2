import shutil

import pytest

from lga_jax.errors import UserError
from lga_jax.stores.copies import complete_steps, fetch_run
from lga_jax.stores.mirror import Mirror
from lga_jax.stores.store import Store, StoreError
from tests.faults import refused
from tests.stores.memory import URL, checkpoint, files, names


def test_a_run_continues_elsewhere_with_the_same_files(run, tmp_path):
    mirror, folder = run
    (folder / ".lock").write_text("local")
    (folder / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir()
    (folder / "checkpoints" / "3.orbax-checkpoint-tmp" / "a").write_text("half")
    mirror.copy()
    assert fetch_run(Store(URL), tmp_path / "other") == [1, 2]
    (folder / ".lock").unlink()
    shutil.rmtree(folder / "checkpoints" / "3.orbax-checkpoint-tmp")
    assert files(tmp_path / "other") == files(folder)


def test_only_changes_are_copied(run, monkeypatch):
    mirror, folder = run
    mirror.copy()
    sent = []
    monkeypatch.setattr(Store, "upload", lambda store, path, name: sent.append(name))
    mirror.copy()
    assert sent == []
    (folder / "metrics.jsonl").write_text("line\nline\n")
    (folder / "checkpoints" / "2" / "score.json").write_text("0.6")
    (folder / "tensorboard").mkdir()
    (folder / "tensorboard" / "events").write_text("1")
    mirror.copy()
    assert sorted(sent) == ["checkpoints/2/score.json", "metrics.jsonl", "tensorboard/events"]


def test_a_checkpoint_counts_when_its_last_object_is_written(run, monkeypatch):
    mirror, _ = run
    store, upload = Store(URL), Store.upload

    def fail(self, path, name):
        if name == "checkpoints/2/variables/d/a":
            raise StoreError("cut off")
        upload(self, path, name)

    monkeypatch.setattr(Store, "upload", fail)
    with pytest.raises(StoreError):
        mirror.copy()
    assert "checkpoints/2/optimizer/b" in store.sizes()
    assert complete_steps(store, store.sizes()) == [1]
    monkeypatch.undo()


def test_after_a_cut_the_next_pass_completes_it(run, monkeypatch, tmp_path):
    mirror, folder = run
    store, upload = Store(URL), Store.upload
    failing = iter([True])
    monkeypatch.setattr(
        Store, "upload", lambda self, path, name: fail() if next(failing, False) else upload(self, path, name)
    )

    def fail():
        raise StoreError("cut off")

    with pytest.raises(StoreError):
        mirror.copy()
    mirror.copy()
    assert fetch_run(store, tmp_path / "other") == [1, 2]
    assert files(tmp_path / "other") == files(folder)


def test_a_deleted_checkpoint_goes_after_the_newest_counts(run, bucket):
    mirror, folder = run
    mirror.copy()
    shutil.rmtree(folder / "checkpoints" / "1")
    checkpoint(folder, 3)
    mirror.copy()
    store = Store(URL)
    assert complete_steps(store, store.sizes()) == [2, 3]
    assert not [name for name in names(bucket) if name.startswith("checkpoints/1")]


def test_an_emptied_folder_deletes_nothing(run):
    mirror, folder = run
    mirror.copy()
    shutil.rmtree(folder / "checkpoints")
    mirror.copy()
    store = Store(URL)
    assert complete_steps(store, store.sizes()) == [1, 2]


def test_a_run_that_lost_its_lock_writes_nothing(bucket, tmp_path):

    def lost():
        raise UserError("workdir")

    mirror = Mirror(Store(URL), tmp_path, lost, [])
    checkpoint(tmp_path, 1)
    with pytest.raises(UserError):
        mirror.copy()
    assert names(bucket) == []


def test_the_end_is_copied_also_after_an_error(run):
    mirror, _ = run
    with pytest.raises(ZeroDivisionError), mirror:
        raise ZeroDivisionError
    assert mirror.is_complete
    assert complete_steps(Store(URL), Store(URL).sizes()) == [1, 2]


def test_a_store_that_is_away_at_the_end_leaves_the_local_folder(run, monkeypatch, capsys):
    mirror, folder = run

    def fail(self, path, name):
        raise StoreError(URL, found="ConnectionError")

    monkeypatch.setattr(Store, "upload", fail)
    with refused(f"workdir {URL}", "ConnectionError") as error, mirror:
        pass
    assert str(folder) in error.value.remedy
    assert not mirror.is_complete
    assert "metrics.jsonl" in files(folder)
