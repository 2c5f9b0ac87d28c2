from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.models.backbones import Backbone, vit
from lga_jax.models.backbones.vit import ARCHITECTURES, GRID, Attention, ViT, cubic_weights, positions
from lga_jax.models.build import build_backbone
from tests.models.backbones.gradients import assert_frozen_parts_and_only_they_get_none, assert_remat_changes_no_number
from tests.reference.vit import attention

# The published classifiers' without class token, last norm and classifier.
PARAMETERS = {"small": 21_664_512, "base": 85_796_352}
HW = (36, 60)


def network(variant="small", **settings):
    return ViT(variant=variant, **{"frozen_stages": 0} | settings)


def shapes(variant="small", hw=(64, 96)):
    key = jax.eval_shape(lambda: jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, *hw, 3), jnp.float32)
    return jax.eval_shape(lambda k, x: network(variant).init_with_output(k, x, False), key, image)


@pytest.fixture
def small(monkeypatch):
    """A narrow network whose maps have several windows."""
    monkeypatch.setitem(ARCHITECTURES, "small", (8, 2))
    monkeypatch.setattr(vit, "WINDOW", 2)
    monkeypatch.setattr(vit, "BLOCKS", 2)


@pytest.mark.parametrize("variant", PARAMETERS)
def test_has_the_published_networks_parameters(variant):
    features, variables = shapes(variant)
    params = {name: tree for name, tree in variables["params"].items() if not name.startswith("output")}
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS[variant]
    channels = ARCHITECTURES[variant][0]
    assert [feature.shape[-1] for feature in features] == [channels // 4, channels // 2, channels, channels]


@pytest.mark.parametrize("hw", [(64, 96), (65, 95), (33, 70)])
def test_features_have_the_sides_that_the_strides_say(hw, small):
    features, _ = shapes(hw=hw)
    assert [f.shape[:3] for f in features] == [(1, *(-(-side // stride) for side in hw)) for stride in ViT.strides]


@pytest.mark.parametrize(("hw", "window"), [((3, 5), 0), ((5, 7), 3), ((4, 4), 2)])
def test_attention_equals_the_reference(hw, window):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *hw, 4)), jnp.float32)
    module = Attention(heads=2, window=window, dtype=jnp.float32)
    described = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), described)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    expected = attention(np.asarray(x[1], np.float64), params, 2, window)
    np.testing.assert_allclose(module.apply(variables, x)[1], expected, rtol=1e-3, atol=1e-4)


def test_the_last_block_of_a_part_sees_the_whole_image(small):
    """A change in one corner reaches the other corner there, and not in the windowed block before."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 64, 64, 3)), jnp.float32)
    net = network()
    params = net.init(jax.random.key(0), x, False)["params"]
    params = jax.tree.map(lambda leaf: 10 * leaf, params)  # initial attention is too weak for float32

    def blocks(x):
        kept = dict(capture_intermediates=lambda module, _: isinstance(module, vit.Block), mutable="intermediates")
        seen = net.apply({"params": params}, x, False, **kept)[1]["intermediates"]
        return [seen[name]["__call__"][0][0, 3, 3] for name in ("layer1_0", "layer1_1")]

    windowed, whole = (a != b for a, b in zip(blocks(x), blocks(x.at[0, 0, 0].add(1.0)), strict=True))
    assert not windowed.any() and whole.any()


def test_positions_of_another_size():
    grid = jnp.asarray(np.random.default_rng(0).normal(size=(GRID * GRID, 2)), jnp.float32)
    np.testing.assert_allclose(positions(grid, (GRID, GRID)), grid.reshape(GRID, GRID, 2), atol=1e-6)
    np.testing.assert_allclose(cubic_weights(5, GRID).sum(1), 1.0, atol=1e-6)
    ramp = np.arange(GRID)
    places = (np.arange(28) + 0.5) / 2 - 0.5
    inner = slice(6, -6)  # away from the ends, a line stays a line
    np.testing.assert_allclose((cubic_weights(28, GRID) @ ramp)[inner], places[inner], atol=0.1)
    assert positions(grid, (3, 40)).shape == (3, 40, 2)


def test_is_a_backbone_and_names_its_parts():
    _, variables = shapes()
    assert isinstance(network(), Backbone)
    parts = {name: ViT.part_of((name, "kernel")) for name in variables["params"]}
    assert parts["stem"] == parts["stem_position"] == 0 and parts["layer2_0"] == 2
    assert [list(parts.values()).count(part) for part in range(6)] == [2, 3, 3, 3, 3, 8]


def test_every_block_has_a_rate_of_its_own():
    """Detectron2's rule for ViTDet: decay ** (13 - layer), the positions being layer 0 and the first block layer 1."""
    _, variables = shapes()
    powers = {name: network().rate_power((name,)) for name in variables["params"]}
    blocks = [powers.pop(f"layer{part}_{number}") for part in range(1, 5) for number in range(3)]
    assert blocks == [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert powers.pop("stem") == powers.pop("stem_position") == 13
    assert set(powers.values()) == {0}  # the pyramid


@pytest.mark.parametrize("frozen_stages", [0, 2, 5])
def test_frozen_parts_and_only_they_get_no_gradient(frozen_stages, small):
    assert_frozen_parts_and_only_they_get_none(network(frozen_stages=frozen_stages), HW)


def test_remat_changes_no_number(small):
    assert_remat_changes_no_number(partial(network, frozen_stages=3), HW)


def test_is_built_by_its_name():
    section = dict(name="vit", variant="base", frozen_stages=1, remat=True)
    assert build_backbone(dict(dtype="float32", backbone=section)) == network("base", frozen_stages=1, remat=True)
