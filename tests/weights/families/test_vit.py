"""Vision Transformers in files of torchvision and timm: every array has a place, others are refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from lga_jax.errors import UserError
from lga_jax.models.backbones.vit import ARCHITECTURES
from lga_jax.models.build import build_backbone
from lga_jax.weights.compatibility import PIXEL_MEAN, PIXEL_STD
from lga_jax.weights.files import Weights
from lga_jax.weights.layouts.layout import Slot
from lga_jax.weights.layouts.vit import timm_vit, torchvision_vit
from lga_jax.weights.load import load_pretrained

LAYOUTS = {"torchvision": torchvision_vit(), "timm": timm_vit(False)}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "small", (8, 2))


def model(**changes):
    section = dict(name="vit", variant="small", frozen_stages=0, remat=False)
    return dict(dtype="float32", pixel_mean=PIXEL_MEAN, pixel_std=PIXEL_STD, init_strict=False, backbone=section) | (
        changes
    )


@functools.cache
def shapes():
    backbone = build_backbone(model())
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(lambda k: backbone.init(k, jnp.zeros((1, 32, 32, 3)), False), key)["params"]


def initial():
    return jax.tree.map(lambda leaf: np.full(leaf.shape, np.nan, np.float32), shapes())


def published(whose):
    """Arrays with the names and shapes of a file, each with values of its own."""
    arrays = {"torchvision": {"class_token": np.ones((1, 1, 8))}, "timm": {"cls_token": np.ones((1, 1, 8))}}[whose]
    for number, (key, leaf) in enumerate(flatten_dict(initial(), sep="/").items()):
        axes = {4: (3, 2, 0, 1), 2: (1, 0)}[leaf.ndim] if key.endswith("kernel") else range(leaf.ndim)
        for name in LAYOUTS[whose].names(Slot.of(f"params/backbone/{key}"))[:1]:
            arrays[name] = np.full(leaf.shape, number, np.float32).transpose(*axes)
    return arrays


def load(arrays, where="w", **changes):
    variables = {"params": {"backbone": initial()}, "batch_stats": {}}
    return load_pretrained(Weights(where, arrays), variables, ("a",), model(**changes))


@pytest.mark.parametrize("whose", LAYOUTS)
def test_every_array_finds_its_place(whose):
    variables, report = load(published(whose))
    assert "ViT small" in report and "in the file and not used: none" in report
    loaded = flatten_dict(variables["params"]["backbone"], sep="/")
    for number, (key, value) in enumerate(loaded.items()):
        assert np.isnan(value).all() if key.startswith("output") else (value == number).all(), key


def test_augmented_weights_have_seen_other_pixels():
    half = dict(pixel_mean=(127.5,) * 3, pixel_std=(127.5,) * 3)
    load(published("timm"), "timm/vit_small_patch16_224.augreg_in21k/model.safetensors", **half)
    with pytest.raises(UserError) as raised:
        load(published("timm"), **half)
    assert "pixel_mean" in str(raised.value)


def test_other_sizes_patches_and_variants_are_refused():
    arrays = published("timm")
    cases = {
        "without a block": {name: value for name, value in arrays.items() if not name.startswith("blocks.11.")},
        "a block more": arrays | {"blocks.12.mlp.fc2.bias": np.ones(8, np.float32)},
        "wide": arrays | {"blocks.0.mlp.fc2.bias": np.ones(9, np.float32)},
        "larger images": arrays | {"pos_embed": np.ones((1, 577, 8), np.float32)},
        "no class token": arrays | {"pos_embed": np.ones((1, 196, 8), np.float32)},
        "larger patches": arrays | {"patch_embed.proj.weight": np.ones((8, 3, 32, 32), np.float32)},
        "layer scale": arrays | {"blocks.0.ls1.gamma": np.ones(8, np.float32)},
    }
    for what, some in cases.items():
        with pytest.raises(UserError) as raised:
            load(some)
        assert raised.value.subject == "weights w", what
