"""Which checkpoint is read for use, and what it holds."""

import json
import math
import os

import numpy as np
import pytest
import tensorstore

from lga_jax.checkpoints.read import best_step, damaged_scores, parse_step, read_scores, restore_params
from lga_jax.checkpoints.write import Checkpoints
from lga_jax.errors import UserError
from tests.checkpoints.saving import edit_manifest, files_by_size, manifest_of, save_steps, state_of
from tests.faults import refused


def test_the_best_of_the_scored_steps():
    scores = {2: 0.5, 3: 0.3, 4: 0.5, 5: math.nan}
    assert best_step(scores, [2, 3, 4, 5, 6]) == 4
    assert best_step(scores, [3, 5]) == 3
    assert best_step(scores, [5, 6]) is None


@pytest.mark.parametrize(
    ("step", "scores", "chosen", "reason"),
    [
        ("best", [0.1, 0.5, 0.3], 2, "the best of 2 scored checkpoints (AP 0.5000)"),
        ("best", [None, 0.5, None], 2, "the best of 1 scored checkpoint (AP 0.5000)"),
        ("best", [None, math.nan], 2, "the latest, none has a score"),
        ("latest", [0.5, 0.1], 2, "the latest"),
        (1, [0.1, 0.5], 1, "as requested"),
    ],
)
def test_best_latest_or_a_number(tmp_path, step, scores, chosen, reason):
    save_steps(tmp_path, scores)
    saved = restore_params(str(tmp_path), step)
    assert (saved.step, saved.manifest["step"], saved.reason) == (chosen, chosen, reason)
    assert saved.title == f"step {chosen}, {reason}"


def test_the_flag_of_a_step():
    assert [parse_step(text) for text in ("best", "latest", "0", "90000")] == ["best", "latest", 0, 90_000]
    for text in ("", "Best", "-1", "1.5", "last", "٣", "9" * 40):
        with pytest.raises(UserError) as caught:
            parse_step(text)
        assert caught.value.subject == "--step"
        assert text in caught.value.found


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"AP": "high"}', '{"AP": 0.5}', '{"AP": 0.5, "digest": "0"}', "[" * 100_000]
)
def test_a_damaged_score_leaves_the_best_step_unknown(tmp_path, text):
    save_steps(tmp_path, [0.1, 0.5])
    path = tmp_path / "checkpoints" / "2" / "score.json"
    path.write_text(text)
    directory = str(tmp_path / "checkpoints")
    assert read_scores(directory, [1, 2]) == {1: 0.1}
    assert damaged_scores(directory, [1, 2]) == [2]
    with refused(f"^{path}$"):
        restore_params(str(tmp_path))
    assert restore_params(str(tmp_path), 2).step == 2
    path.unlink()
    assert restore_params(str(tmp_path)).step == 1


def test_params_for_evaluation_are_numpy_and_the_moving_average(tmp_path):
    save_steps(tmp_path, [0.1, 0.2])
    variables = restore_params(str(tmp_path)).variables
    assert isinstance(variables["params"]["conv"]["kernel"], np.ndarray)
    np.testing.assert_array_equal(variables["params"]["conv"]["kernel"], np.full((2, 3), 2.5, np.float32))
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.full(3, -2.0, np.float32))


def test_params_without_moving_average(tmp_path):
    save_steps(tmp_path, [0.1], ema=False)
    kernel = restore_params(str(tmp_path)).variables["params"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel, np.full((2, 3), 1.0, np.float32))


def test_missing_workdir_and_step_are_named(tmp_path):
    with pytest.raises(UserError) as caught:
        restore_params(str(tmp_path / "nowhere"))
    assert caught.value.subject == f"workdir {tmp_path / 'nowhere'}"
    assert not (tmp_path / "nowhere").exists()
    save_steps(tmp_path, [0.1, 0.2])
    for step in (0, 7):
        with pytest.raises(UserError) as caught:
            restore_params(str(tmp_path), step)
        assert str(step) in caught.value.expected and caught.value.found == "1, 2"
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    for step in (1, "best", "latest"):
        with pytest.raises(UserError) as caught:
            restore_params(str(tmp_path / "empty"), step)
        assert (caught.value.subject, caught.value.found) == (f"workdir {tmp_path / 'empty'}", "none")


def _refused(workdir, step="best"):
    with pytest.raises(UserError) as caught:
        restore_params(str(workdir), step)
    assert caught.value.subject == f"checkpoint {workdir}/checkpoints/2"
    assert "\n" not in str(caught.value)
    return caught.value


def test_damaged_params_are_an_error_that_names_the_others(tmp_path):
    save_steps(tmp_path, [0.1, 0.2])
    files_by_size(tmp_path / "checkpoints" / "2" / "manifest")[-1].write_text("{")
    error = _refused(tmp_path)
    assert "another step" in error.remedy and "1" in error.remedy


@pytest.mark.parametrize("path", ["config", "config.model", "class_names", "category_ids", "digests.variables", "step"])
def test_a_manifest_without_one_of_its_parts_is_damage(tmp_path, path):
    def edit(manifest):
        *parents, name = path.split(".")
        for parent in parents:
            manifest = manifest[parent]
        del manifest[name]

    save_steps(tmp_path, [0.1, 0.2])
    edit_manifest(tmp_path, 2, edit)
    assert path in _refused(tmp_path).found


@pytest.mark.parametrize(("number", "words"), [(1, "model.init_from"), (3, "install the version")])
def test_other_formats_are_refused_with_what_helps(tmp_path, number, words):
    save_steps(tmp_path, [0.1, 0.2])
    edit_manifest(tmp_path, 2, lambda manifest: manifest.update(format=number))
    error = _refused(tmp_path)
    assert "format 2" in error.expected and f"format {number}" in error.found
    assert words in error.remedy


def test_weights_to_start_from_may_have_an_earlier_format_but_no_later_one(tmp_path):
    save_steps(tmp_path, [0.1, 0.2])
    edit_manifest(tmp_path, 2, lambda manifest: manifest.pop("format"))  # as version 0.1 wrote it
    assert "format 2" in _refused(tmp_path).expected
    assert restore_params(str(tmp_path), 2, earlier=True).step == 2
    edit_manifest(tmp_path, 2, lambda manifest: manifest.update(format=3))
    with pytest.raises(UserError, match="format 3"):
        restore_params(str(tmp_path), 2, earlier=True)


def _claim(workdir, step, item, **changes):
    """Changes the metadata of one array of a checkpoint, as TensorStore stores them."""
    place = workdir / "checkpoints" / str(step) / item
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{place}/"}).result()
    name = next(key for key in store.list().result() if key.endswith(b"conv.kernel/.zarray"))
    metadata = json.loads(store.read(name).result().value)
    store.write(name, json.dumps(metadata | changes).encode()).result()


@pytest.mark.parametrize("claim", [{"shape": [10**9, 3]}, {"chunks": [10**9, 3]}, {"shape": [2, 10**12]}])
def test_arrays_that_claim_far_more_than_the_files_hold_are_not_allocated(tmp_path, claim):
    """TensorStore would allocate 12 GB or 8 TB before it reads them."""
    save_steps(tmp_path, [0.1, 0.2])
    _claim(tmp_path, 2, "variables", **claim)
    assert "its metadata claim" in _refused(tmp_path).found
    with Checkpoints(str(tmp_path)) as checkpoints:
        restored = checkpoints.restore(state_of(0.0), manifest_of(state_of(0.0)))
    assert restored.step == 1 and (tmp_path / "checkpoints" / "2.damaged").is_dir()


def test_a_manifest_of_endless_depth_is_damage(tmp_path):
    save_steps(tmp_path, [0.1, 0.2])
    (path,) = (tmp_path / "checkpoints" / "2" / "manifest").rglob("metadata")
    path.write_text('{"config": ' + "[" * 10**5 + "]" * 10**5 + "}")
    assert "RecursionError" in _refused(tmp_path).found


@pytest.mark.parametrize("place", ["manifest/metadata", "variables/pipe", "pipe"])
def test_a_pipe_in_a_checkpoint_is_damage(tmp_path, place):
    """Reading it would never end."""
    save_steps(tmp_path, [0.1, 0.2])
    path = tmp_path / "checkpoints" / "2" / place
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert "is no file" in _refused(tmp_path, 2).found


def test_a_pipe_in_the_place_of_a_score_is_damage(tmp_path):
    save_steps(tmp_path, [0.1, 0.2])
    path = tmp_path / "checkpoints" / "2" / "score.json"
    path.unlink()
    os.mkfifo(path)
    assert damaged_scores(str(tmp_path / "checkpoints"), [1, 2]) == [2]
