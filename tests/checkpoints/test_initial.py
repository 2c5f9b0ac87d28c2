import json
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from lga_jax.checkpoints.initial import open_weights
from lga_jax.checkpoints.write import Checkpoints
from lga_jax.errors import UserError
from lga_jax.models.build import build_detector
from lga_jax.stores.copies import marker
from lga_jax.stores.store import Store
from lga_jax.structs import TrainState
from lga_jax.training import start
from tests.stores.memory import URL, bucket  # noqa: F401  (a fixture)
from tests.training.stubs import stub_config
from tests.weights import foreign
from tests.weights.loading import ABC, COCO_ANCHORS, FROZEN, V1, as_variables, model, own, shapes


def save_run(workdir, changes, step=7, ema=True):
    """A checkpoint of a tiny detector whose moving average is not its parameters."""
    arrays, about = own(changes)
    variables = as_variables(arrays)
    state = TrainState(
        step=np.int32(step),
        params=jax.tree.map(lambda leaf: -leaf, variables["params"]) if ema else variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=(),
        ema_params=variables["params"] if ema else None,
    )
    manifest = {
        "format": 2,
        "config": {"model": about["model"]},
        "class_names": list(ABC),
        "category_ids": [3, 5, 8],
        "parameters": {},
        "schedule_start": 0,
    }
    with Checkpoints(str(workdir)) as checkpoints:
        checkpoints.save(step, jax.tree.map(jax.numpy.asarray, state), {}, manifest)
    return arrays


@pytest.mark.parametrize("ema", [True, False])
def test_a_workdir_gives_what_evaluation_uses_and_says_what_it_is(tmp_path, ema):
    arrays = save_run(tmp_path, V1, ema=ema)
    weights = open_weights(str(tmp_path))
    assert weights.where == f"{tmp_path}, step 7, the latest, none has a score"
    assert (weights.class_names, weights.category_ids) == (ABC, (3, 5, 8))
    assert weights.model["backbone"]["norm"] == "frozen_bn"
    assert weights.arrays.keys() == arrays.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(weights.arrays[name], value)


def test_a_workdir_in_a_bucket(bucket, tmp_path):  # noqa: F811
    arrays = save_run(tmp_path / "run", V1)
    sizes = {}
    for path in filter(Path.is_file, (tmp_path / "run").rglob("*")):
        name = path.relative_to(tmp_path / "run").as_posix()
        Store(URL).upload(path, name)
        sizes[name] = path.stat().st_size
    with pytest.raises(UserError):
        open_weights(URL)
    Store(URL).write(marker(7), json.dumps(sizes).encode())
    weights = open_weights(URL)
    assert weights.where.startswith(f"{URL}, step 7") and weights.arrays.keys() == arrays.keys()


def test_files_are_read_as_files(tmp_path):
    np.savez(tmp_path / "w.npz", **{"conv1.weight": np.ones(3, np.float32)})
    assert open_weights(str(tmp_path / "w.npz")).arrays.keys() == {"conv1.weight"}
    with pytest.raises(UserError) as caught:
        open_weights(str(tmp_path))
    assert caught.value.subject == f"weights {tmp_path}"


def _config(changes, init_from):
    config = stub_config()
    config.model = model(changes)
    config.model.init_from = str(init_from)
    return config


def _new_state(monkeypatch, changes, init_from, names=ABC):
    """The state a run of the tiny detector begins with; initial values are 0."""
    zeros = {key: np.zeros(leaf.shape, np.float32) for key, leaf in shapes(changes, len(names)).items()}
    monkeypatch.setattr(start, "init_variables", lambda detector, seed: as_variables(zeros))
    detector = build_detector(model(changes), len(names))
    return start.new_state(_config(changes, init_from), detector, names, optax.sgd(0.1))


def test_a_run_starts_from_a_file(tmp_path, monkeypatch, capsys):
    arrays = foreign.resnet()
    np.savez(tmp_path / "w.npz", **arrays)
    state = _new_state(monkeypatch, FROZEN, tmp_path / "w.npz")
    for params in (state.params, state.ema_params):
        kernel = np.asarray(params["backbone"]["conv1"]["kernel"])
        np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), arrays["conv1.weight"])
    assert not flatten_dict(state.params, sep="/")["fpn/lateral2/kernel"].any()
    assert "torchvision's ResNet, ResNet-18" in capsys.readouterr().out


def test_a_run_starts_from_another_with_its_classes_by_name(tmp_path, monkeypatch, capsys):
    arrays = save_run(tmp_path, V1)
    state = _new_state(monkeypatch, FROZEN | COCO_ANCHORS, tmp_path, names=("c", "d"))
    bias = np.asarray(state.params["box_head"]["classes"]["bias"])
    theirs = arrays["params/box_head/classes/bias"]  # of a, b, c and the background
    np.testing.assert_array_equal(bias, [theirs[2], 0.0, theirs[3]])
    said = capsys.readouterr().out
    assert "1 of 2 class rows by name; new: d" in said and "left at initial values: attention (17 arrays)" in said


@pytest.mark.parametrize("norm", ["gn", "bn", "frozen_bn"])
@pytest.mark.parametrize("names", [ABC, ("c", "d")])
def test_a_run_starts_from_another_of_its_own_model_with_every_norm(tmp_path, monkeypatch, norm, names):
    arrays = save_run(tmp_path, {"backbone.norm": norm})
    state = _new_state(monkeypatch, {"backbone.norm": norm}, tmp_path, names)
    loaded = flatten_dict({"params": state.params, "batch_stats": state.batch_stats}, sep="/")
    for key in ("params/backbone/layer3_1/conv1/kernel", "params/attention/centres/places", "params/box_head/fc1/bias"):
        np.testing.assert_array_equal(loaded[key], arrays[key])
    statistics = [key for key in arrays if key.startswith("batch_stats/")]
    assert bool(statistics) == bool(state.batch_stats) == (norm != "gn")
    for key in statistics:
        np.testing.assert_array_equal(loaded[key], arrays[key])
