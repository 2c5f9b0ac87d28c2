"""Checkpoints: what is kept, what is refused, what damage does."""

import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.checkpoints import write as checkpoint
from lga_jax.checkpoints.manifest import parameter_table
from lga_jax.checkpoints.write import Checkpoints, best_step, digest, restore_params
from lga_jax.errors import UserError
from lga_jax.inference.step import replicate
from lga_jax.recipe import default_workdir
from lga_jax.structs import TrainState

CONFIG = {"num_steps": 10, "batch_size": 4, "optim": {"schedule": "step", "lr": 0.1}, "log_every": 1}


def _state(value, ema=True):
    params = {"conv": {"kernel": jnp.full((2, 3), value), "bias": jnp.arange(3.0)}}
    return replicate(
        TrainState(
            step=jnp.int32(value),
            params=params,
            batch_stats={"mean": jnp.full(3, -value)},
            opt_state=({"momentum": jax.tree.map(lambda p: p * 2, params)}, ()),
            ema_params=jax.tree.map(lambda p: p + 0.5, params) if ema else None,
        )
    )


def _manifest(state, classes=("car", "bus")):
    return {
        "config": CONFIG,
        "class_names": list(classes),
        "category_ids": [1, 7],
        "parameters": parameter_table(state.params),
    }


def _save(workdir, scores, ema=True):
    """Steps 1, 2, ...; a score is known only after its step was saved, as in a run."""
    with Checkpoints(str(workdir)) as checkpoints:
        for step, score in enumerate(scores, start=1):
            state = _state(float(step), ema)
            checkpoints.save(step, state, {"step": step}, _manifest(state))
            checkpoints.scores[step] = score
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def _restore(workdir, state=None, classes=("car", "bus")):
    state = state or _state(0.0)
    with Checkpoints(str(workdir)) as checkpoints:
        return checkpoints.restore(state, _manifest(state, classes))


def _files(directory):
    return sorted((path for path in directory.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def test_latest_two_and_the_best_are_kept(tmp_path):
    """max_to_keep=2 with best_fn would keep [2, 3] here: a resumed run would repeat step 4."""
    assert _save(tmp_path, [0.1, 0.5, 0.3, 0.2]) == [2, 3, 4]
    assert best_step({2: 0.5, 3: 0.3, 4: 0.5}, [2, 3, 4]) == 4
    assert best_step({2: float("nan")}, [2]) is None


@pytest.mark.parametrize("ema", [True, False])
def test_restored_state_is_the_saved_one(tmp_path, ema):
    _save(tmp_path, [0.1, 0.2], ema)
    restored = _restore(tmp_path, _state(0.0, ema))
    assert (restored.step, restored.position) == (2, {"step": 2})
    jax.tree.map(np.testing.assert_array_equal, restored.state, jax.device_get(_state(2.0, ema)))
    assert jax.tree.structure(restored.state) == jax.tree.structure(_state(2.0, ema))


def test_what_is_saved_does_not_change_with_the_donated_state(tmp_path):
    state = _state(1.0)
    overwrite = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0, tree), donate_argnums=0)
    with Checkpoints(str(tmp_path)) as checkpoints:
        checkpoints.save(1, state, {}, _manifest(state))
        overwrite(state)
    np.testing.assert_array_equal(_restore(tmp_path).state.params["conv"]["kernel"], np.full((2, 3), 1.0))


def test_new_workdir_has_nothing_to_restore(tmp_path):
    assert _restore(tmp_path) is None


def test_workdir_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^--workdir .*file: expected a folder that can be written, found Not a dir"):
        Checkpoints(str(tmp_path / "file"))


def test_what_a_killed_process_left_is_ignored(tmp_path):
    _save(tmp_path, [0.1])
    (tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp" / "variables").mkdir(parents=True)
    assert _restore(tmp_path).step == 1
    assert _save(tmp_path, [0.1, 0.2]) == [1, 2]


@pytest.mark.parametrize("item", ["variables", "optimizer", "data", "manifest"])
def test_damaged_item_falls_back_to_the_step_before(tmp_path, capsys, item):
    _save(tmp_path, [0.1, 0.2])
    for path in _files(tmp_path / "checkpoints" / "2" / item):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert _restore(tmp_path).step == 1
    said = capsys.readouterr().out
    assert f"{tmp_path}/checkpoints/2 is damaged" in said
    assert f"set aside as {tmp_path}/checkpoints/2.damaged, going back to step 1" in said
    with Checkpoints(str(tmp_path)) as checkpoints:
        assert checkpoints.steps() == [1]


def test_arrays_that_are_not_the_saved_ones_are_damage(tmp_path, capsys):
    """A bit that flips on the disk restores silently in Orbax; here the arrays are readable, but another step's."""
    _save(tmp_path, [0.1, 0.2])
    shutil.rmtree(tmp_path / "checkpoints" / "2" / "variables")
    shutil.copytree(tmp_path / "checkpoints" / "1" / "variables", tmp_path / "checkpoints" / "2" / "variables")
    with pytest.raises(UserError, match=r"found damage .*digest"):
        restore_params(str(tmp_path), 2)
    assert _restore(tmp_path).step == 1
    assert "digest" in capsys.readouterr().out


def test_only_damaged_checkpoints_are_an_error(tmp_path):
    _save(tmp_path, [0.1, 0.2])
    for step in "12":
        _files(tmp_path / "checkpoints" / step / "manifest")[-1].write_text("{")
    with pytest.raises(UserError, match=r"found only damaged ones \(steps 2, 1;"):
        _restore(tmp_path)
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
@pytest.mark.parametrize("reader", ["_read_manifest", "_verify"])
def test_a_disk_that_does_not_answer_sets_no_checkpoint_aside(tmp_path, monkeypatch, error, raised, reader):
    def fail(*_):
        raise error

    _save(tmp_path, [0.1, 0.2])
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, reader, fail)
        for read in (_restore, restore_params):
            with pytest.raises(raised, match="2: expected to read it, found" if raised is UserError else None):
                read(str(tmp_path))
    assert _restore(tmp_path).step == 2


def test_a_missing_file_is_damage(tmp_path, capsys):
    _save(tmp_path, [0.1, 0.2])
    for path in _files(tmp_path / "checkpoints" / "2" / "manifest"):
        path.unlink()
    assert _restore(tmp_path).step == 1
    assert "2 is damaged (FileNotFoundError" in capsys.readouterr().out


def test_other_classes_are_refused(tmp_path):
    _save(tmp_path, [0.1])
    message = r"expected a checkpoint for the data's 3 classes \(car, bus, van\), found one for 2 \(car, bus\);"
    with pytest.raises(UserError, match=message):
        _restore(tmp_path, classes=("car", "bus", "van"))


def test_params_for_evaluation_are_numpy_and_the_moving_average(tmp_path):
    _save(tmp_path, [0.1, 0.2])
    saved = restore_params(str(tmp_path))
    assert saved.step == saved.manifest["step"] == 2
    assert isinstance(saved.variables["params"]["conv"]["kernel"], np.ndarray)
    np.testing.assert_array_equal(saved.variables["params"]["conv"]["kernel"], np.full((2, 3), 2.5, np.float32))
    np.testing.assert_array_equal(saved.variables["batch_stats"]["mean"], np.full(3, -2.0, np.float32))
    assert restore_params(str(tmp_path), 1).step == 1


def test_params_without_moving_average(tmp_path):
    _save(tmp_path, [0.1], ema=False)
    np.testing.assert_array_equal(
        restore_params(str(tmp_path)).variables["params"]["conv"]["kernel"], np.full((2, 3), 1.0, np.float32)
    )


def test_missing_workdir_and_step_are_named(tmp_path):
    with pytest.raises(UserError, match=r"expected a trained run, found no .*nowhere"):
        restore_params(str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()
    _save(tmp_path, [0.1, 0.2])
    for step in (0, 7):
        with pytest.raises(UserError, match=f"expected a checkpoint of step {step}, found 1, 2"):
            restore_params(str(tmp_path), step)
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="expected a checkpoint, found none"):
        restore_params(str(tmp_path / "empty"))


def test_damaged_params_are_an_error_that_names_the_others(tmp_path):
    _save(tmp_path, [0.1, 0.2])
    _files(tmp_path / "checkpoints" / "2" / "manifest")[-1].write_text("{")
    with pytest.raises(UserError, match=r"found damage .* give --step with another \(there are: 1\)"):
        restore_params(str(tmp_path))


def test_digest_knows_names_shapes_and_bits():
    tree = {"a": np.zeros(4, np.float32)}
    others = [{"b": tree["a"]}, {"a": tree["a"].reshape(2, 2)}, {"a": np.float32([0, 0, 0, 1e-45])}]
    assert len({digest(other) for other in [tree, *others]}) == 4
    assert digest(tree) == digest({"a": np.zeros(4, np.float32)})


def test_recipe_names_the_default_workdir():
    assert default_workdir("configs/coco_json.py") == os.path.join("runs", "coco_json")
