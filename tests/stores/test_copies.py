from pathlib import Path

import pytest

from lga_jax.stores.copies import checkpoints_to_read, complete_steps, files_to_read, marker, results_folder
from lga_jax.stores.store import Store
from tests.stores.memory import URL, files, names


@pytest.mark.parametrize("content", [None, b"", b"[1]", b"{", b"null", b'{"checkpoints/2/variables/d/a": 3}'])
def test_a_checkpoint_with_a_missing_or_shorter_object_does_not_count(run, content):
    mirror, _ = run
    mirror.copy()
    store = Store(URL)
    if content is None:
        store.remove(["checkpoints/2/optimizer/b"])
    else:
        store.write(marker(2), content)
    assert complete_steps(store, store.sizes()) == [1]


def test_reading_fetches_only_the_wanted_checkpoint(run):
    mirror, _ = run
    mirror.copy()
    with checkpoints_to_read(URL) as (folder, fetch):
        place = folder
        assert sorted(path.name for path in Path(place, "checkpoints").iterdir()) == ["1", "2"]
        assert files(Path(place)) == {"checkpoints/1/score.json": "0.5"}
        fetch(2)
        assert files(Path(place)).keys() == {
            "checkpoints/1/score.json",
            "checkpoints/2/variables/d/a",
            "checkpoints/2/manifest/m",
        }
    assert not Path(place).exists()


def test_single_files_and_results(bucket):
    with results_folder(URL) as folder:
        Path(folder, "eval_1").mkdir()
        Path(folder, "eval_1", "metrics.json").write_text("{}")
    assert names(bucket) == ["eval_1/metrics.json"]
    with files_to_read(URL, "eval_1/metrics.json", "metrics.jsonl") as folder:
        assert files(Path(folder)) == {"eval_1/metrics.json": "{}"}


def test_local_folders_are_used_as_they_are(tmp_path):
    with results_folder(str(tmp_path)) as folder, files_to_read(str(tmp_path), "a") as other:
        assert folder == other == str(tmp_path)
    with checkpoints_to_read(str(tmp_path)) as (folder, _):
        assert folder == str(tmp_path)
