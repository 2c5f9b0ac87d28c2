"""Digests; and every file of a checkpoint, with a bit flipped, cut or deleted: no other value is used silently."""

import gc
import shutil
import warnings

import jax
import numpy as np
import pytest

from lga_jax.checkpoints.damage import digest, json_digest
from lga_jax.checkpoints.read import restore_params
from lga_jax.checkpoints.write import Checkpoints
from lga_jax.errors import UserError
from tests.checkpoints.saving import manifest_of, save_steps, state_of


def test_digest_knows_names_shapes_and_bits():
    tree = {"a": np.zeros(4, np.float32)}
    others = [{"b": tree["a"]}, {"a": tree["a"].reshape(2, 2)}, {"a": np.float32([0, 0, 0, 1e-45])}]
    assert len({digest(other) for other in [tree, *others]}) == 4
    assert digest(tree) == digest({"a": np.zeros(4, np.float32)})


def test_digest_of_json_knows_values_and_no_spelling():
    assert json_digest({"a": [1, 2.5], "b": None}) == json_digest({"b": None, "a": (1, 2.5)})
    assert len({json_digest(content) for content in ({"a": 1}, {"a": 1.0}, {"a": "1"}, {"b": 1}, [1], None)}) == 6


def _flip(path, rng):
    data = bytearray(path.read_bytes())
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    path.write_bytes(data)


def _cut(path, rng):
    path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size)])


def _delete(path, rng):
    path.unlink()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two steps; the second is the best."""
    workdir = tmp_path_factory.mktemp("run")
    save_steps(workdir, [0.1, 0.2])
    return workdir


def _files(run):
    return sorted(path.relative_to(run) for path in (run / "checkpoints" / "2").rglob("*") if path.is_file())


def test_unknown_type_of_an_array_is_one_line_without_warnings(run, tmp_path):
    """Orbax leaves coroutines behind that it never awaits."""
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / "checkpoints" / "2" / "variables" / "_METADATA"
    before, kind, after = file.read_bytes().rpartition(b"np.ndarray")
    assert kind
    file.write_bytes(before + b"np.ndarrax" + after)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        lines = str(_use(tmp_path / "run")).splitlines()  # keeps no exception, whose frames hold the coroutines
        gc.collect()
    assert len(lines) == 1 and "np.ndarrax" in lines[0]
    assert not [warning for warning in seen if "awaited" in str(warning.message)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "seed"), [*((_flip, seed) for seed in range(5)), *((_cut, seed) for seed in (5, 6)), (_delete, 7)]
)
def test_no_damage_is_used_unseen(run, tmp_path, damage, seed):
    sound = {step: restore_params(str(run), step) for step in (1, 2)}
    rng = np.random.default_rng(seed)
    for number, file in enumerate(_files(run)):
        workdir = tmp_path / str(number)
        shutil.copytree(run, workdir)
        damage(workdir / file, rng)
        _assert_used_as_saved_or_refused(workdir, file, sound)
        _assert_resumes_with_what_was_saved(workdir, file)


def _use(workdir):
    try:
        return restore_params(str(workdir))
    except UserError as error:
        return error


def _assert_used_as_saved_or_refused(workdir, file, sound):
    saved = _use(workdir)
    if isinstance(saved, UserError):
        assert len(str(saved).splitlines()) == 1, file
        return
    assert saved.step == 2 or (file.name == "score.json" and not (workdir / file).exists()), file
    assert saved.manifest == sound[saved.step].manifest, file
    jax.tree.map(np.testing.assert_array_equal, saved.variables, sound[saved.step].variables)


def _assert_resumes_with_what_was_saved(workdir, file):
    like = state_of(0.0)
    with Checkpoints(str(workdir)) as checkpoints:
        restored = checkpoints.restore(like, manifest_of(like))
    assert restored.position == {"step": restored.step}, file
    jax.tree.map(np.testing.assert_array_equal, restored.state, jax.device_get(state_of(float(restored.step))))
    assert restored.step == 2 or not (workdir / "checkpoints" / "2").exists(), file
