"""What is checked and compared before the first step."""

import runpy
from contextlib import closing

import jax
import jax.numpy as jnp
import pytest

from lga_jax.data.batches.fill import MASK_SIDE
from lga_jax.data.source import MaskCounts, open_source
from lga_jax.errors import UserError
from lga_jax.inference.step import replicate
from lga_jax.models.build import build_detector
from lga_jax.processes.facts import first_difference
from lga_jax.structs import TrainState
from lga_jax.training import start
from lga_jax.training.run import open_run
from lga_jax.training.start import Beginning, recipe_facts, run_facts
from tests.training.stubs import install, stub_config, tiny_config


def _difference(ours, theirs):
    difference = first_difference({0: ours, 1: theirs})
    return difference and difference["name"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, None),
        ({"optim.lr": 0.2}, "recipe optim.lr"),
        ({"data.buckets": ((32, 64),)}, "recipe data.buckets.0.1"),
        ({"data.train.num_images": 11}, "recipe data.train.num_images"),
        ({"data.num_workers": 7, "data.prefetch": 1}, None),
    ],
)
def test_recipes_are_compared_key_by_key(changes, name):
    ours, theirs = recipe_facts(stub_config(), extend=False), recipe_facts(stub_config(**changes), extend=False)
    assert _difference(ours, theirs) == name


def test_arguments_devices_and_settings_of_jax_are_compared(monkeypatch):
    ours = recipe_facts(stub_config(), extend=False)
    assert _difference(ours, recipe_facts(stub_config(), extend=True)) == "argument extend"
    with jax.default_matmul_precision("highest"):
        assert _difference(ours, recipe_facts(stub_config())) is not None
    monkeypatch.setattr(jax, "local_device_count", lambda: 3)
    assert _difference(ours, recipe_facts(stub_config(), extend=False)) == "devices: number"


def _facts(step=0, kernel=1.0, train="f", eval_seed=1):
    state = replicate(TrainState(jnp.int32(step), {"kernel": jnp.full((2, 3), kernel)}, {}, (), None))
    manifest = {"class_names": ["crane"], "category_ids": [1], "parameters": {"kernel": [[2, 3], "float32"]}}
    eval_source = open_source("challenge", num_images=1, seed=eval_seed, image_hw=(64, 64))
    return run_facts(Beginning(step, state, {}, None, None, manifest), {"fingerprint": train}, eval_source)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, None),
        ({"step": 2}, "step of the checkpoint"),
        ({"train": "g"}, "data.train: fingerprint"),
        ({"eval_seed": 2}, "data.eval: fingerprint"),
        ({"kernel": 1.0000001}, "state: digest"),
    ],
)
def test_data_and_state_are_compared(changes, name):
    assert _difference(_facts(), _facts(**changes)) == name


class Given:
    """A source of the caller, of some images of the challenge set."""

    def __init__(self, num_images):
        whole = start.open_source(**stub_config().data.train)
        self.class_names, self.records, self.image = whole.class_names, whole.records[:num_images], whole.image


@pytest.mark.parametrize(("num_images", "found"), [(3, "4"), (1, "4")])
def test_a_batch_larger_than_the_data_is_refused_before_anything_is_made(tmp_path, monkeypatch, num_images, found):
    install(monkeypatch)
    with pytest.raises(UserError) as caught, open_run(stub_config(), tmp_path / "run", source=Given(num_images)):
        pass
    assert (caught.value.subject, caught.value.found) == ("batch_size", found)
    assert caught.value.expected.startswith(f"at most the {num_images} image")
    assert not (tmp_path / "run").exists()


def test_a_batch_as_large_as_the_data_is_accepted():
    start.open_sources(stub_config(), Given(4), Given(1))


BACKBONE = """
import flax.linen as nn

class Coarse(nn.Module):
    frozen_stages: int = 0
    strides = (8, 16, 32)

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(8, (3, 3), strides=4, name="stem")(x)
        features = []
        for stage in range(1, 4):
            x = nn.relu(nn.Conv(8, (3, 3), strides=2, name=f"stage{stage}")(x))
            features.append(x)
        return features

    @staticmethod
    def part_of(path):
        return 0 if path[0] == "stem" else int(path[0].removeprefix("stage"))
"""


def test_a_backbone_from_a_file_with_other_strides_starts_a_run(tmp_path, monkeypatch):
    (tmp_path / "coarse.py").write_text(BACKBONE)
    backbone = runpy.run_path(str(tmp_path / "coarse.py"))["Coarse"]()
    config = tiny_config()
    source = start.open_source(**config.data.train)
    with pytest.raises(UserError) as caught:
        build_detector(config.model, len(source.class_names), backbone=backbone)
    assert caught.value.subject == "model.anchors.sizes" and caught.value.found == "5"
    config.model.anchors.sizes = (16, 32, 48, 64)  # strides 8, 16, 32, 64
    detector = build_detector(config.model, len(source.class_names), backbone=backbone)
    traced = {}
    monkeypatch.setattr(start, "compile_ahead", lambda programs: traced.update(programs) or {})
    with open_run(config, tmp_path / "run", detector=detector) as run:
        assert run.state.params["backbone"]["stage3"]["kernel"].shape == (3, 3, 8, 8)
    assert len(traced) == 2


def test_a_mask_head_needs_masks_and_gets_them(monkeypatch):
    config, lines = stub_config(), []
    monkeypatch.setattr(start, "say", lines.append)
    config.model.mask_head.enabled = True
    source, eval_source = start.open_sources(config, None, None)  # the challenge set has masks
    assert next(line for line in lines if "object masks" in line).startswith("data.train: ")
    with closing(start.open_loader(source, config, 0, {})) as loader:
        batch = next(loader.empty_batches())
    assert batch.targets.masks.shape[-2:] == (MASK_SIDE, MASK_SIDE)
    monkeypatch.setattr(type(source), "mask_counts", lambda self: [MaskCounts("", 4, {"mask_missing": 4})])
    with pytest.raises(UserError) as raised:
        start.open_sources(config, source, eval_source)
    assert raised.value.subject == "data.train"
