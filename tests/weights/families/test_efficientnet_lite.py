import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from lga_jax.errors import UserError
from lga_jax.models.backbones.efficientnet_lite import architecture
from lga_jax.models.build import build_backbone
from lga_jax.weights.compatibility import check_fit
from lga_jax.weights.families.efficientnet_lite import examine_efficientnet_lite
from lga_jax.weights.files import Weights
from lga_jax.weights.layouts import recognise
from lga_jax.weights.load import load_pretrained

SECTION = dict(name="efficientnet_lite", variant=0, norm="frozen_bn", norm_eps=1e-3, frozen_stages=2, remat=False)
MODEL = dict(dtype="float32", pixel_mean=(127.0,) * 3, pixel_std=(128.0,) * 3, init_strict=True, backbone=SECTION)


def published(variant):
    """A file's arrays, of the right names and shapes, written out from the description of the network."""
    random = np.random.default_rng(0)
    arrays = {}

    def conv_norm(conv, norm, *shape):
        arrays[f"{conv}.weight"] = random.normal(size=shape).astype(np.float32)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{norm}.{leaf}"] = random.uniform(0.5, 1.5, shape[0]).astype(np.float32)
        arrays[f"{norm}.num_batches_tracked"] = np.array(0)

    conv_norm("_conv_stem", "_bn0", 32, 3, 3, 3)
    inputs, number = 32, 0
    for rule in (rule for part in architecture(variant) for rule in part):
        block, hidden = f"_blocks.{number}", inputs * rule.expansion
        if rule.expansion > 1:
            conv_norm(f"{block}._expand_conv", f"{block}._bn0", hidden, inputs, 1, 1)
        conv_norm(f"{block}._depthwise_conv", f"{block}._bn1", hidden, 1, rule.kernel_size, rule.kernel_size)
        conv_norm(f"{block}._project_conv", f"{block}._bn2", rule.features, hidden, 1, 1)
        inputs, number = rule.features, number + 1
    conv_norm("_conv_head", "_bn1", 1280, inputs, 1, 1)
    return arrays | {"_fc.weight": np.ones((10, 1280), np.float32), "_fc.bias": np.ones(10, np.float32)}


def initial(variant):
    backbone = build_backbone(MODEL | {"backbone": SECTION | {"variant": variant}})
    key = jax.eval_shape(lambda: jax.random.key(0))
    shapes = jax.eval_shape(lambda k: backbone.init(k, jnp.zeros((1, 32, 32, 3)), False), key)
    return {
        name: {"backbone": jax.tree.map(lambda leaf: np.full(leaf.shape, np.nan, np.float32), tree)}
        for name, tree in shapes.items()
    }


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_every_array_finds_its_place(variant):
    arrays = published(variant)
    model = MODEL | {"backbone": SECTION | {"variant": variant}}
    variables, report = load_pretrained(Weights("w", arrays), initial(variant), ("a",), model)
    assert f"EfficientNet-Lite{variant}" in report
    loaded = flatten_dict(variables, sep="/")
    assert not any(np.isnan(value).any() for value in loaded.values())
    depthwise = loaded["params/backbone/layer4_0/depthwise/kernel"]
    number = sum(map(len, architecture(variant)[:4]))
    theirs = arrays[f"_blocks.{number}._depthwise_conv.weight"]
    np.testing.assert_array_equal(depthwise[:, :, 0], theirs[:, 0].transpose(1, 2, 0))
    np.testing.assert_array_equal(loaded["batch_stats/backbone/norm1/bn/var"], arrays["_bn0.running_var"])


def test_a_run_of_its_own_is_recognised():
    arrays = {key: np.zeros(value.shape, np.float32) for key, value in flatten_dict(initial(1), sep="/").items()}
    layout = recognise("w", arrays)
    assert layout.family == "efficientnet_lite"
    assert examine_efficientnet_lite(layout, Weights("w", arrays), MODEL)[:2] == (
        "EfficientNet-Lite1",
        {"backbone.variant": 1},
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pixel_mean", (123.675, 116.28, 103.53)),
        ("pixel_std", (58.395, 57.12, 57.375)),
        ("backbone.variant", 2),
        ("backbone.norm_eps", 1e-5),
    ],
)
def test_a_recipe_that_differs_is_told_the_key(key, value):
    arrays = published(0)
    section, _, name = key.rpartition(".")
    model = MODEL | ({"backbone": SECTION | {name: value}} if section else {key: value})
    with pytest.raises(UserError) as caught:
        check_fit(recognise("w", arrays), Weights("w", arrays), model, exact=False)
    assert f"model.{key}: expected" in caught.value.subject
    assert f"--config.model.{key}=" in caught.value.remedy


def test_a_recipe_of_another_family_is_refused():
    arrays = published(0)
    with pytest.raises(UserError) as caught:
        check_fit(recognise("w", arrays), Weights("w", arrays), MODEL | {"backbone": {"depth": 18}}, exact=False)
    assert caught.value.found == "efficientnet_lite"


def test_other_efficientnets_and_parts_are_refused():
    for arrays, found in (
        (published(0) | {"_blocks.0._se_reduce.weight": np.ones((8, 32, 1, 1), np.float32)}, "_blocks.0._se_reduce"),
        ({name: value for name, value in published(0).items() if not name.startswith("_blocks.15.")}, "other blocks"),
    ):
        with pytest.raises(UserError) as caught:
            examine_efficientnet_lite(recognise("w", arrays), Weights("w", arrays), MODEL)
        assert found in caught.value.found
