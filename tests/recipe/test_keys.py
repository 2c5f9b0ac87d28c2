"""The rules of recipes say the same as the modules that recipes configure."""

import dataclasses
import importlib
import inspect

import pytest

from lga_jax.data import decode, source
from lga_jax.data.augment import geometry
from lga_jax.data.challenge import scene
from lga_jax.models import build, layers
from lga_jax.models.backbones import convnext, efficientnet_lite, resnet, swin, vit
from lga_jax.models.fpn import pyramid_strides
from lga_jax.recipe import flatten, load
from lga_jax.recipe.keys import ATTENTIONS, BACKBONES, CHALLENGES, KEYS, MAX_BUCKET, NORMS, NUM_LEVELS, SOURCES


def test_the_reference_recipe_has_all_keys_and_no_other():
    keys = [
        key for key in flatten(load("coco")) if not key.startswith(("data.train.", "data.eval.", "model.backbone."))
    ]
    assert sorted(keys) == sorted(KEYS)


@pytest.mark.parametrize(
    ("key", "choices"),
    [
        ("model.fpn.norm", ("none", *layers.NORMS)),
        ("model.box_head.norm", ("none", *layers.NORMS)),
        ("model.mask_head.norm", ("none", *layers.NORMS)),
        ("model.attention", tuple(build.ATTENTIONS)),
        ("data.resize", geometry.KERNELS),
        ("data.size_rounding", geometry.ROUNDINGS),
    ],
)
def test_choices_are_those_of_the_modules(key, choices):
    assert KEYS[key].choices == tuple(choices)


def test_constants_are_those_of_the_modules():
    assert (*NORMS,) == layers.NORMS
    assert len(pyramid_strides(resnet.ResNet.strides)) == NUM_LEVELS
    assert tuple(build.ATTENTIONS) == ATTENTIONS
    assert {f"model.cascade.{name}" for name in build.CASCADE} == {key for key in KEYS if "cascade" in key}
    assert decode.MAX_PIXELS >= MAX_BUCKET
    assert scene.CHALLENGES == CHALLENGES


def test_backbones_and_their_keys_are_those_of_the_modules():
    assert BACKBONES.keys() == build.BACKBONES.keys()
    for name, rules in BACKBONES.items():
        fields = {field.name for field in dataclasses.fields(build.BACKBONES[name])}
        assert rules.keys() == fields - {"dtype", "parent", "name"}
    assert BACKBONES["resnet"]["depth"].choices == tuple(resnet.ARCHITECTURES)
    assert BACKBONES["efficientnet_lite"]["variant"].choices == tuple(efficientnet_lite.MULTIPLIERS)
    assert BACKBONES["convnext"]["variant"].choices == tuple(convnext.ARCHITECTURES)
    assert BACKBONES["swin"]["variant"].choices == tuple(swin.ARCHITECTURES)
    assert BACKBONES["vit"]["variant"].choices == tuple(vit.ARCHITECTURES)
    assert BACKBONES["swin"]["version"].choices == tuple(swin.WINDOWS)
    norms = [rules["norm"].choices for rules in BACKBONES.values() if "norm" in rules]
    assert norms == [tuple(layers.NORMS)] * 2


def test_sources_and_their_settings_are_those_of_the_modules():
    assert SOURCES.keys() == source._SOURCES.keys()
    for kind, rules in SOURCES.items():
        module, name = source._SOURCES[kind]
        parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        assert {name: value.default is value.empty for name, value in parameters.items()} == {
            name: rule.needed for name, rule in rules.items()
        }


def test_sizes_of_models_and_data_have_upper_limits():
    """A checkpoint of a stranger has a recipe too."""
    rules = {**KEYS, **{key: rule for rules in BACKBONES.values() for key, rule in rules.items()}}
    unlimited = {key for key, rule in rules.items() if "whole number of at least" in rule.expected}
    assert unlimited <= {"num_steps", "log_every", "checkpoint_every", "eval_every"} | {
        key for key in KEYS if key.startswith("optim.")
    }
