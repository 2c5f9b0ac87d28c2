from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.models.backbones import Backbone, convnext
from lga_jax.models.backbones.convnext import ARCHITECTURES, Block, ConvNeXt
from lga_jax.models.build import build_backbone
from tests.models.backbones.gradients import assert_frozen_parts_and_only_they_get_none, assert_remat_changes_no_number
from tests.reference.convnext import block as reference_block

# The published networks' without the norm before the classifier and the classifier.
PARAMETERS = {"tiny": 27_818_592, "small": 49_453_152, "base": 87_564_416}
HW = (32, 32)


def shapes(variant, hw=(64, 96)):
    net = ConvNeXt(variant=variant, frozen_stages=0)
    key = jax.eval_shape(lambda: jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, *hw, 3), jnp.float32)
    return jax.eval_shape(lambda k, x: net.init_with_output(k, x, False), key, image)


@pytest.fixture
def small(monkeypatch):
    """A network of narrow blocks, which compiles in seconds."""
    monkeypatch.setitem(convnext.ARCHITECTURES, "tiny", ((1, 1, 1, 1), (4, 4, 8, 8)))


@pytest.mark.parametrize("variant", PARAMETERS)
def test_has_the_published_networks_parameters(variant):
    features, variables = shapes(variant)
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    outputs = sum(2 * f.shape[-1] for f in features)
    assert sum(leaf.size for _, leaf in leaves) - outputs == PARAMETERS[variant]
    assert [f.shape[-1] for f in features] == list(ARCHITECTURES[variant][1])


@pytest.mark.parametrize("hw", [(64, 96), (65, 95), (33, 70)])
def test_features_have_the_sides_that_the_strides_say(hw):
    features, _ = shapes("tiny", hw)
    assert [f.shape[:3] for f in features] == [(1, *(-(-side // stride) for side in hw)) for stride in ConvNeXt.strides]


def test_block_equals_the_reference():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 9, 4)), jnp.float32)
    block = Block(jnp.float32)
    shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), x))
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)
    expected = reference_block(np.asarray(x), jax.tree.map(np.asarray, variables["params"]))
    np.testing.assert_allclose(block.apply(variables, x), expected, rtol=1e-4, atol=1e-4)


def test_is_a_backbone_and_names_its_parts():
    _, variables = shapes("tiny")
    assert isinstance(ConvNeXt(variant="tiny", frozen_stages=0), Backbone)
    parts = {name: ConvNeXt.part_of((name, "kernel")) for name in variables["params"]}
    assert parts["stem"] == parts["stem_norm"] == 0 and parts["down3"] == parts["down3_norm"] == 3
    assert [list(parts.values()).count(part) for part in range(6)] == [2, 3, 5, 11, 5, 4]


def test_the_rate_falls_by_stages_and_by_three_blocks_in_the_third():
    """MMDetection's layers: stem 0, stages 1, 2 and 3 + block // 3, the last stage 6; factor decay ** (7 - layer)."""
    _, variables = shapes("tiny")
    net = ConvNeXt(variant="tiny", frozen_stages=0)
    powers = {name: net.rate_power((name, "kernel")) for name in variables["params"]}
    assert [powers[name] for name in ("stem", "stem_norm", "layer1_2", "down2", "layer2_2")] == [7, 7, 6, 5, 5]
    assert powers["down3"] == powers["down3_norm"] == 4
    assert [powers[f"layer3_{number}"] for number in range(9)] == [4, 4, 4, 3, 3, 3, 2, 2, 2]
    assert [powers[name] for name in ("down4", "layer4_0", "output2_norm", "output5_norm")] == [1, 1, 0, 0]
    assert ConvNeXt(variant="small", frozen_stages=0).rate_power(("stem",)) == 13


@pytest.mark.parametrize("frozen_stages", [0, 2, 5])
def test_frozen_parts_and_only_they_get_no_gradient(frozen_stages, small):
    assert_frozen_parts_and_only_they_get_none(ConvNeXt(variant="tiny", frozen_stages=frozen_stages), HW)


def test_remat_changes_no_number(small):
    assert_remat_changes_no_number(partial(ConvNeXt, variant="tiny", frozen_stages=3), HW)


def test_is_built_by_its_name():
    section = dict(name="convnext", variant="base", frozen_stages=1, remat=True)
    built = build_backbone(dict(dtype="float32", backbone=section))
    assert built == ConvNeXt(variant="base", frozen_stages=1, remat=True)
