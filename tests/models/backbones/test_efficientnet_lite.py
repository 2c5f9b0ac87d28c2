from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.models.backbones import Backbone, efficientnet_lite
from lga_jax.models.backbones.efficientnet_lite import BlockRule, EfficientNetLite, InvertedResidual, architecture
from lga_jax.models.build import build_backbone
from tests.models.backbones.gradients import assert_frozen_parts_and_only_they_get_none, assert_remat_changes_no_number
from tests.reference.efficientnet_lite import inverted_residual

# The published networks' without the head's convolution, its norm and the classifier.
PARAMETERS = {0: 2_958_848, 1: 3_723_520, 2: 4_357_952}

HW = (32, 32)


def shapes(variant, hw=(64, 96), norm="frozen_bn"):
    net = EfficientNetLite(variant=variant, norm=norm, frozen_stages=0)
    key = jax.eval_shape(lambda: jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, *hw, 3), jnp.float32)
    return jax.eval_shape(lambda k, x: net.init_with_output(k, x, False), key, image)


@pytest.fixture
def small(monkeypatch):
    """A network of one or two narrow blocks a part, which compiles in seconds."""
    strides = [(0, 1), (1, 2), (2, 2), (3, 2), (3, 1), (4, 2)]
    groups = [(part, 1 + (stride == 2), BlockRule(3, stride, 2, 8)) for part, stride in strides]
    monkeypatch.setattr(efficientnet_lite, "_GROUPS", groups)
    monkeypatch.setattr(efficientnet_lite, "_STEM_FEATURES", 8)


@pytest.mark.parametrize("variant", PARAMETERS)
def test_has_the_published_networks_parameters(variant):
    _, variables = shapes(variant)
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    assert sum(leaf.size for path, leaf in leaves if path[-1].key not in ("mean", "var")) == PARAMETERS[variant]


def test_numbers_of_blocks_and_widths():
    assert [[rule.features for rule in part] for part in architecture(0)] == [
        [16],
        [24] * 2,
        [40] * 2,
        [80] * 3 + [112] * 3,
        [192] * 4 + [320],
    ]
    assert [len(part) for part in architecture(1)] == [len(part) for part in architecture(2)] == [1, 3, 3, 8, 6]
    assert [part[-1].features for part in architecture(2)] == [16, 24, 48, 120, 352]


@pytest.mark.parametrize("hw", [(64, 96), (65, 95), (33, 70)])
def test_features_have_the_sides_that_the_strides_say(hw):
    features, _ = shapes(0, hw)
    sides = [(1, *(-(-side // stride) for side in hw)) for stride in EfficientNetLite.strides]
    assert [f.shape[:3] for f in features] == sides
    assert [f.shape[3] for f in features] == [24, 40, 112, 320]


@pytest.mark.parametrize(
    "rule", [BlockRule(3, 1, 1, 4), BlockRule(3, 1, 6, 8), BlockRule(3, 2, 6, 8), BlockRule(5, 2, 6, 4)]
)
@pytest.mark.parametrize("hw", [(6, 6), (7, 6), (5, 7)])
def test_block_equals_the_reference(rule, hw):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *hw, 4)), jnp.float32)
    block = InvertedResidual(rule, norm="frozen_bn", norm_eps=1e-3, dtype=jnp.float32)
    shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), x, False))
    # Values near and beyond 6, so that ReLU6 cuts at either end.
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.2, 2.0, leaf.shape), jnp.float32), shapes)
    variables["params"] = jax.tree.map(lambda kernel: kernel - 1.0, variables["params"])
    expected = inverted_residual(x, variables, rule.stride, 1e-3)
    np.testing.assert_allclose(block.apply(variables, x, False), expected, rtol=1e-4, atol=1e-4)


def test_is_a_backbone_and_names_its_parts():
    _, variables = shapes(1)
    assert isinstance(EfficientNetLite(variant=0, norm="bn", frozen_stages=0), Backbone)
    parts = {name: EfficientNetLite.part_of((name, "kernel")) for name in variables["params"]}
    assert parts["conv1"] == parts["layer0_0"] == 0
    assert [list(parts.values()).count(part) for part in range(5)] == [2, 3, 3, 8, 6]


@pytest.mark.parametrize("frozen_stages", [0, 2, 5])
def test_frozen_parts_and_only_they_get_no_gradient(frozen_stages, small):
    assert_frozen_parts_and_only_they_get_none(
        EfficientNetLite(variant=0, norm="gn", frozen_stages=frozen_stages), HW, ("kernel",)
    )


def test_batch_norm_of_frozen_parts_keeps_its_statistics(small):
    net = EfficientNetLite(variant=0, norm="bn", frozen_stages=1)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 32, 32, 3)), jnp.float32)
    variables = net.init(jax.random.key(0), x[0], False)
    apply = jax.pmap(lambda v, x: net.apply(v, x, True, mutable=["batch_stats"])[1], "devices", in_axes=(None, 0))
    updated = apply(variables, x)["batch_stats"]
    assert not np.any(updated["norm1"]["bn"]["mean"])
    assert not np.any(updated["layer0_0"]["depthwise_norm"]["bn"]["mean"])
    assert np.any(updated["layer1_0"]["depthwise_norm"]["bn"]["mean"])


def test_remat_changes_no_number(small):
    assert_remat_changes_no_number(partial(EfficientNetLite, variant=0, norm="gn", frozen_stages=3), HW)


def test_is_built_by_its_name():
    section = dict(name="efficientnet_lite", variant=1, norm="gn", norm_eps=1e-3, frozen_stages=0, remat=False)
    built = build_backbone(dict(dtype="float32", backbone=section))
    assert built == EfficientNetLite(variant=1, norm="gn", norm_eps=1e-3, frozen_stages=0)
