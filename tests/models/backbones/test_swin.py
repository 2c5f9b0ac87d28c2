from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.models.backbones import Backbone, swin
from lga_jax.models.backbones.swin import ARCHITECTURES, WINDOWS, Architecture, Swin, WindowAttention
from lga_jax.models.build import build_backbone
from tests.models.backbones.gradients import assert_frozen_parts_and_only_they_get_none, assert_remat_changes_no_number
from tests.reference.swin import window_attention

# The published networks' without the norm before the classifier and the classifier.
PARAMETERS = {
    ("tiny", 1): 27_517_818,
    ("small", 1): 48_835_722,
    ("base", 1): 86_741_176,
    ("tiny", 2): 27_581_034,
}
HW = (36, 44)


def network(version=1, variant="tiny", **settings):
    return Swin(variant=variant, version=version, **{"frozen_stages": 0} | settings)


def shapes(variant="tiny", version=1, hw=(64, 96)):
    key = jax.eval_shape(lambda: jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, *hw, 3), jnp.float32)
    return jax.eval_shape(lambda k, x: network(version, variant).init_with_output(k, x, False), key, image)


@pytest.fixture
def small(monkeypatch):
    """A network of few and narrow blocks, which compiles in seconds."""
    monkeypatch.setitem(ARCHITECTURES, "tiny", Architecture((2, 1, 1, 1), 4, (1, 1, 2, 2)))


@pytest.mark.parametrize(("variant", "version"), PARAMETERS)
def test_has_the_published_networks_parameters(variant, version):
    features, variables = shapes(variant, version)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    outputs = sum(2 * feature.shape[-1] for feature in features)
    assert count - outputs == PARAMETERS[variant, version]
    channels = ARCHITECTURES[variant].channels
    assert [feature.shape[-1] for feature in features] == [channels * 2**stage for stage in range(4)]


@pytest.mark.parametrize("hw", [(64, 96), (65, 95), (33, 70)])
def test_features_have_the_sides_that_the_strides_say(hw, small):
    features, _ = shapes(hw=hw)
    assert [f.shape[:3] for f in features] == [(1, *(-(-side // stride) for side in hw)) for stride in Swin.strides]


@pytest.mark.parametrize("version", WINDOWS)
@pytest.mark.parametrize(("hw", "shift"), [((16, 9), 0), ((16, 9), 3), ((5, 17), 2)])
def test_attention_equals_the_reference(version, hw, shift):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *hw, 4)), jnp.float32)
    module = WindowAttention(heads=2, version=version, shift=shift, dtype=jnp.float32)
    described = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), described)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    expected = window_attention(np.asarray(x[1], np.float64), params, 2, version, WINDOWS[version], shift)
    np.testing.assert_allclose(module.apply(variables, x)[1], expected, rtol=1e-3, atol=1e-4)


def test_is_a_backbone_and_names_its_parts():
    _, variables = shapes()
    assert isinstance(network(), Backbone)
    parts = {name: Swin.part_of((name, "kernel")) for name in variables["params"]}
    assert parts["stem"] == parts["stem_norm"] == 0 and parts["merge3"] == parts["merge3_norm"] == 3
    assert [list(parts.values()).count(part) for part in range(6)] == [2, 2, 4, 8, 4, 4]


@pytest.mark.parametrize(("version", "frozen_stages"), [(1, 0), (2, 2), (1, 5)])
def test_frozen_parts_and_only_they_get_no_gradient(version, frozen_stages, small):
    assert_frozen_parts_and_only_they_get_none(network(version, frozen_stages=frozen_stages), HW)


def test_remat_changes_no_number(small):
    assert_remat_changes_no_number(partial(network, frozen_stages=3), HW)


def test_windows_and_back():
    x = jnp.arange(2 * 14 * 21 * 3).reshape(2, 14, 21, 3)
    windows = swin.to_windows(x.astype(jnp.float32), 7)
    assert windows.shape == (2, 6, 49, 3)
    np.testing.assert_array_equal(windows[0, 4, 8], x[0, 8, 8])
    np.testing.assert_array_equal(swin.from_windows(windows, (14, 21)), x)


def test_is_built_by_its_name():
    section = dict(name="swin", variant="base", version=2, frozen_stages=1, remat=True)
    assert build_backbone(dict(dtype="float32", backbone=section)) == network(2, "base", frozen_stages=1, remat=True)
