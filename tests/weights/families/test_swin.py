"""Swin Transformers in files of torchvision and timm: every array has a place, others are refused."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from lga_jax.errors import UserError
from lga_jax.models.backbones.swin import ARCHITECTURES, Architecture
from lga_jax.models.build import build_backbone
from lga_jax.weights.compatibility import PIXEL_MEAN, PIXEL_STD
from lga_jax.weights.files import Weights
from lga_jax.weights.layouts.layout import Slot
from lga_jax.weights.layouts.swin import timm_swin, torchvision_swin
from lga_jax.weights.load import load_pretrained

LAYOUTS = {
    "torchvision": torchvision_swin(),
    "timm": timm_swin(merges_first=True),
    "old timm": timm_swin(merges_first=False),
}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "tiny", Architecture((2, 1, 1, 2), 4, (1, 1, 2, 2)))


def model(version=1, variant="tiny"):
    section = dict(name="swin", variant=variant, version=version, frozen_stages=0, remat=False)
    return dict(dtype="float32", pixel_mean=PIXEL_MEAN, pixel_std=PIXEL_STD, init_strict=False, backbone=section)


def initial(version):
    backbone = build_backbone(model(version))
    key = jax.eval_shape(lambda: jax.random.key(0))
    shapes = jax.eval_shape(lambda k: backbone.init(k, jnp.zeros((1, 32, 32, 3)), False), key)["params"]
    return jax.tree.map(lambda leaf: np.full(leaf.shape, np.nan, np.float32), shapes)


def published(whose, version=1):
    """Arrays with the names and shapes of a file, each with values of its own."""
    arrays = {"norm.weight": np.ones(32, np.float32), "head.weight": np.ones((10, 32), np.float32)}
    for number, (key, leaf) in enumerate(flatten_dict(initial(version), sep="/").items()):
        names = LAYOUTS[whose].names(Slot.of(f"params/backbone/{key}"))
        axes = {4: (3, 2, 0, 1), 2: (1, 0)}[leaf.ndim] if key.endswith("kernel") else range(leaf.ndim)
        value = np.full(leaf.shape, number, np.float32).transpose(*axes)
        if version == 2 and len(names) == 2:  # timm has a bias for queries and one for values
            queries, _, values = np.split(value, 3)
            arrays |= {names[1]: queries, names[1].replace("q_bias", "v_bias"): values + 0.5}
        elif names:
            arrays[names[0]] = value
    return arrays


def load(arrays, version=1, where="w"):
    return load_pretrained(
        Weights(where, arrays), {"params": {"backbone": initial(version)}, "batch_stats": {}}, ("a",), model(version)
    )


@pytest.mark.parametrize(
    ("whose", "version"), [("torchvision", 1), ("torchvision", 2), ("timm", 1), ("timm", 2), ("old timm", 1)]
)
def test_every_array_finds_its_place(whose, version):
    variables, report = load(published(whose, version), version)
    assert f"Swin tiny, version {version}" in report and "in the file and not used: none" in report
    loaded = flatten_dict(variables["params"]["backbone"], sep="/")
    for number, (key, value) in enumerate(loaded.items()):
        expected = number
        if (whose, version) == ("timm", 2) and key.endswith("qkv/bias"):
            expected = np.repeat([number, 0, number + 0.5], len(value) // 3)  # keys have none
        assert np.isnan(value).all() if key.startswith("output") else (value == expected).all(), key


def test_a_bias_of_queries_alone_stays_initial_and_is_reported():
    arrays = published("timm", 2)
    del arrays["layers.2.blocks.0.attn.v_bias"]
    variables, report = load(arrays, 2)
    assert np.isnan(variables["params"]["backbone"]["layer3_0"]["attention"]["qkv"]["bias"]).all()
    assert "layer3_0/attention/qkv/bias" in report and "layers.2.blocks.0.attn.q_bias" in report


def test_other_versions_sizes_and_windows_are_refused():
    with pytest.raises(UserError, match="version"):
        load(published("torchvision", 1), 2)
    wide = {key: value for key, value in published("timm").items() if not re.search(r"layers\.3\.blocks\.1", key)}
    with pytest.raises(UserError, match="whole Swin"):
        load(wide)
    other = {
        key: value[:64] if key.endswith("bias_table") else value for key, value in published("timm").items()
    }  # windows of 4 cells have 49 distances
    with pytest.raises(UserError, match="7 x 7"):
        load(other)


def test_windows_of_version_2_by_the_name_of_the_file_or_the_stored_distances():
    arrays = published("timm", 2)
    load(arrays, 2, "hf://timm/swinv2_tiny_window8_256.ms_in1k/model.safetensors")
    for name in ("swinv2_tiny_window16_256.ms_in1k", "swinv2_base_window12to16_192to256.ms_in22k_ft_in1k"):
        with pytest.raises(UserError, match="8 x 8"):
            load(arrays, 2, f"hf://timm/{name}/model.safetensors")
    table = "layers.0.blocks.0.attn.relative_coords_table"
    load(arrays | {table: np.zeros((1, 15, 15, 2), np.float32)}, 2)
    with pytest.raises(UserError, match="8 x 8"):
        load(arrays | {table: np.zeros((1, 31, 31, 2), np.float32)}, 2)
