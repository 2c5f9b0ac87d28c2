"""Checkpoints: what is kept, what is refused, what damage does."""

import json
import math
import shutil

import jax
import numpy as np
import pytest

from lga_jax.checkpoints import read as read_module
from lga_jax.checkpoints import write as write_module
from lga_jax.checkpoints.read import restore_params
from lga_jax.checkpoints.write import Checkpoints
from lga_jax.errors import UserError
from tests.checkpoints.saving import edit_manifest, files_by_size, manifest_of, save_steps, saved_steps, state_of
from tests.faults import refused


def _restore(workdir, state=None, classes=("car", "bus")):
    state = state or state_of(0.0)
    with Checkpoints(str(workdir)) as checkpoints:
        return checkpoints.restore(state, manifest_of(state, classes))


def test_latest_two_and_the_best_are_kept(tmp_path):
    """max_to_keep=2 with best_fn would keep [2, 3] here: a resumed run would repeat step 4."""
    assert save_steps(tmp_path, [0.1, 0.5, 0.3, 0.2]) == [2, 3, 4]


def test_the_best_stays_the_best_for_a_process_that_did_not_score_it(tmp_path):
    """The score lies in the checkpoint and nowhere else."""
    save_steps(tmp_path, [0.5])
    state = state_of(2.0)
    with Checkpoints(str(tmp_path)) as checkpoints:
        assert checkpoints.scores == {1: 0.5}
        for step in (2, 3, 4):
            checkpoints.save(step, state, {}, manifest_of(state))
    assert saved_steps(tmp_path) == [1, 3, 4]


def test_a_step_whose_score_is_damaged_may_be_the_best_and_is_kept(tmp_path, capsys):
    save_steps(tmp_path, [0.5, 0.1])
    (tmp_path / "checkpoints" / "1" / "score.json").write_text("{")
    state = state_of(3.0)
    with Checkpoints(str(tmp_path)) as checkpoints:
        assert checkpoints.scores == {2: 0.1}
        for step in (3, 4, 5):
            checkpoints.save(step, state, {}, manifest_of(state))
    assert saved_steps(tmp_path) == [1, 2, 4, 5]
    assert "step 1 is damaged" in capsys.readouterr().out


def test_a_score_that_is_no_number_is_kept_as_null(tmp_path):
    save_steps(tmp_path, [math.nan])
    assert json.loads((tmp_path / "checkpoints" / "1" / "score.json").read_text())["AP"] is None
    with Checkpoints(str(tmp_path)) as checkpoints:
        assert math.isnan(checkpoints.scores[1])


@pytest.mark.parametrize("ema", [True, False])
def test_restored_state_is_the_saved_one(tmp_path, ema):
    save_steps(tmp_path, [0.1, 0.2], ema)
    restored = _restore(tmp_path, state_of(0.0, ema))
    assert (restored.step, restored.position) == (2, {"step": 2})
    jax.tree.map(np.testing.assert_array_equal, restored.state, jax.device_get(state_of(2.0, ema)))
    assert jax.tree.structure(restored.state) == jax.tree.structure(state_of(2.0, ema))


def test_processes_with_other_states_are_reported_and_process_0s_is_saved(tmp_path, monkeypatch, capsys):
    compared = []
    monkeypatch.setattr(write_module, "difference", lambda name, facts: compared.append(facts()) or "process 1: params")
    assert save_steps(tmp_path, [None]) == [1]
    saved = restore_params(str(tmp_path), 1).manifest["digests"]
    assert [facts[""] for facts in compared] == [{name: saved[name] for name in ("variables", "optimizer", "data")}]
    assert "step 1: process 1: params differ" in capsys.readouterr().out


def test_what_is_saved_does_not_change_with_the_donated_state(tmp_path):
    state = state_of(1.0)
    overwrite = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0, tree), donate_argnums=0)
    with Checkpoints(str(tmp_path)) as checkpoints:
        checkpoints.save(1, state, {}, manifest_of(state))
        overwrite(state)
    np.testing.assert_array_equal(_restore(tmp_path).state.params["conv"]["kernel"], np.full((2, 3), 1.0))


def test_processes_compare_the_step_that_they_read_and_nothing_is_renamed_if_it_differs(tmp_path, monkeypatch, capsys):
    save_steps(tmp_path, [0.1, 0.2, 0.3])
    manifest = tmp_path / "checkpoints" / "3" / "manifest" / "metadata"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    compared = []

    def compare(name, facts):
        compared.append(facts())
        raise UserError("process 1")

    monkeypatch.setattr(write_module, "compare", compare)
    with refused("process 1"):
        _restore(tmp_path)
    assert compared == [{"latest intact checkpoint:": "step 2"}]
    assert f"{tmp_path / 'checkpoints' / '3'} is damaged (" in capsys.readouterr().out
    assert manifest.exists()


def test_new_workdir_has_nothing_to_restore(tmp_path):
    assert _restore(tmp_path) is None


def test_workdir_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as caught:
        Checkpoints(str(tmp_path / "file"))
    assert caught.value.subject == f"workdir {tmp_path / 'file'}"
    assert "Not a dir" in caught.value.found


def test_what_a_killed_process_left_is_ignored(tmp_path):
    save_steps(tmp_path, [0.1])
    (tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp" / "variables").mkdir(parents=True)
    assert _restore(tmp_path).step == 1
    assert save_steps(tmp_path, [0.1, 0.2]) == [1, 2]


@pytest.mark.parametrize("item", ["variables", "optimizer", "data", "manifest"])
def test_damaged_item_falls_back_to_the_step_before(tmp_path, capsys, item):
    save_steps(tmp_path, [0.1, 0.2])
    for path in files_by_size(tmp_path / "checkpoints" / "2" / item):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert _restore(tmp_path).step == 1
    said = capsys.readouterr().out
    assert f"{tmp_path}/checkpoints/2 is damaged" in said
    assert f"{tmp_path}/checkpoints/2.damaged, resuming from step 1" in said
    with Checkpoints(str(tmp_path)) as checkpoints:
        assert checkpoints.steps() == [1]


def test_arrays_that_are_not_the_saved_ones_are_damage(tmp_path, capsys):
    """A bit that flips on the disk restores silently in Orbax; here the arrays are readable, but another step's."""
    save_steps(tmp_path, [0.1, 0.2])
    shutil.rmtree(tmp_path / "checkpoints" / "2" / "variables")
    shutil.copytree(tmp_path / "checkpoints" / "1" / "variables", tmp_path / "checkpoints" / "2" / "variables")
    with pytest.raises(UserError) as caught:
        restore_params(str(tmp_path), 2)
    assert "digest" in caught.value.found
    assert _restore(tmp_path).step == 1
    assert "digest" in capsys.readouterr().out


def test_only_damaged_checkpoints_are_an_error(tmp_path):
    save_steps(tmp_path, [0.1, 0.2])
    for step in "12":
        files_by_size(tmp_path / "checkpoints" / step / "manifest")[-1].write_text("{")
    with pytest.raises(UserError) as caught:
        _restore(tmp_path)
    assert caught.value.subject == f"{tmp_path}/checkpoints" and "steps 2, 1;" in caught.value.found
    assert (tmp_path / "checkpoints" / "2").is_dir()


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(116, "Stale file handle"), UserError),
        (PermissionError(13, "Permission denied"), UserError),
        (ValueError("PERMISSION_DENIED: Error opening a driver"), UserError),  # TensorStore's way
        (MemoryError(), MemoryError),
    ],
)
@pytest.mark.parametrize("reader", ["read_manifest", "verify"])
def test_a_disk_that_does_not_answer_sets_no_checkpoint_aside(tmp_path, monkeypatch, error, raised, reader):
    def fail(*_):
        raise error

    save_steps(tmp_path, [0.1, 0.2])
    with monkeypatch.context() as patch:
        for module, read in ((write_module, _restore), (read_module, restore_params)):
            patch.setattr(module, reader, fail)
            with pytest.raises(raised) as caught:
                read(str(tmp_path))
            if raised is UserError:
                assert caught.value.subject == f"checkpoint {tmp_path}/checkpoints/2"
                assert str(error) in caught.value.found
    assert _restore(tmp_path).step == 2


def test_a_missing_file_is_damage(tmp_path, capsys):
    save_steps(tmp_path, [0.1, 0.2])
    for path in files_by_size(tmp_path / "checkpoints" / "2" / "manifest"):
        path.unlink()
    assert _restore(tmp_path).step == 1
    assert "2 is damaged (FileNotFoundError" in capsys.readouterr().out


def test_a_manifest_without_digests_is_damage(tmp_path, capsys):
    save_steps(tmp_path, [0.1, 0.2])
    edit_manifest(tmp_path, 2, lambda manifest: manifest.pop("digests"))
    assert _restore(tmp_path).step == 1
    assert "digests" in capsys.readouterr().out


def test_a_run_of_version_0_1_is_not_gone_on_with(tmp_path):
    save_steps(tmp_path, [0.1])
    edit_manifest(tmp_path, 1, lambda manifest: manifest.pop("format"))
    with pytest.raises(UserError) as caught:
        _restore(tmp_path)
    assert caught.value.subject == f"checkpoint {tmp_path}/checkpoints/1"
    assert "model.init_from" in caught.value.remedy and "\n" not in str(caught.value)
    assert saved_steps(tmp_path) == [1]


def test_other_classes_are_refused(tmp_path):
    save_steps(tmp_path, [0.1])
    with pytest.raises(UserError) as caught:
        _restore(tmp_path, classes=("car", "bus", "van"))
    assert "3 classes" in caught.value.expected and "only in the data: 'van'" in caught.value.found
