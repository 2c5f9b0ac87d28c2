"""Stochastic depth: its rates, its mean, and what it does in blocks, backbones and the detector."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.evaluation.losses import make_loss_step
from lga_jax.models.backbones import convnext, swin, vit
from lga_jax.models.backbones.convnext import ConvNeXt
from lga_jax.models.backbones.stochastic_depth import residual_factors, scaled
from lga_jax.models.backbones.swin import Architecture, Swin
from lga_jax.models.backbones.vit import ViT
from lga_jax.models.build import build_detector
from tests.models import tiny
from tests.training.test_step import LOSSES, make_batch

BLOCKS = (1, 2, 1, 1)
KEYS = jax.random.split(jax.random.key(7), 4000)


def factors_of(keys, last_rate=0.5, frozen_stages=0, num_residuals=2):
    return list(residual_factors(keys, BLOCKS, frozen_stages, last_rate, num_residuals))


def test_rates_grow_linearly_and_the_mean_of_the_factors_is_one():
    rates = np.array([0.0, 0.125, 0.25, 0.375, 0.5])
    for factors, rate in zip(factors_of(KEYS), rates, strict=True):
        assert factors.shape == (4000, 2)
        kept = np.asarray(factors)[np.asarray(factors) != 0]
        np.testing.assert_allclose(kept, 1 / (1 - rate), rtol=1e-6)
        dropped = np.mean(np.asarray(factors) == 0)
        assert abs(dropped - rate) < 4 * np.sqrt(rate * (1 - rate) / 8000) + 1e-9
        assert abs(np.mean(factors) - 1) < 4 * np.sqrt(rate / (1 - rate) / 8000) + 1e-6


def test_residuals_and_blocks_are_drawn_independently():
    last, before = (np.asarray(factors) == 0 for factors in factors_of(KEYS)[:2:-1])
    assert abs(np.mean(last[:, 0] & last[:, 1]) - 0.25) < 0.03
    assert abs(np.mean(last[:, 0] & before[:, 0]) - 0.5 * 0.375) < 0.03


def test_the_factors_of_an_image_depend_on_its_key_alone():
    for together, alone in zip(factors_of(KEYS[:5]), factors_of(KEYS[3:4]), strict=True):
        np.testing.assert_array_equal(together[3:4], alone)


def test_nothing_is_dropped_without_keys_with_a_rate_of_0_and_in_frozen_parts():
    assert factors_of(None) == factors_of(KEYS[:2], last_rate=0.0) == [None] * 5
    frozen = factors_of(KEYS[:2], frozen_stages=3)  # the stem and the stages 1 and 2
    assert [factors is None for factors in frozen] == [True, True, True, False, False]
    for one, other in zip(frozen[3:], factors_of(KEYS[:2])[3:], strict=True):
        np.testing.assert_array_equal(one, other)
    residual = jnp.ones((2, 3, 3, 4))
    assert scaled(residual, None, 0) is residual


BLOCK = {
    "convnext": (convnext.Block(jnp.float32), 1),
    "swin_1": (swin.Block(2, 1, 3, jnp.float32), 2),
    "vit": (vit.Block(2, 0, jnp.float32), 2),
    "swin_2": (swin.Block(2, 2, 0, jnp.float32), 2),
}


@pytest.mark.parametrize("name", BLOCK)
def test_a_dropped_block_passes_its_input_and_learns_nothing(name):
    block, num_residuals = BLOCK[name]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 8, 8, 4)), jnp.float32)
    described = jax.eval_shape(lambda: block.init(jax.random.key(0), x))
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), described)
    kept_in_second = jnp.array([[0.0] * num_residuals, [1.0] * num_residuals])
    found = block.apply(variables, x, kept_in_second)
    np.testing.assert_array_equal(found[0], x[0])
    np.testing.assert_allclose(found[1], block.apply(variables, x)[1], rtol=1e-5, atol=1e-5)

    def sums(variables, image, factors):
        return jnp.sin(block.apply(variables, x, factors))[image].sum()

    gradient = jax.jit(jax.grad(sums), static_argnums=1)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient(variables, 0, kept_in_second)))
    assert any(leaf.any() for leaf in jax.tree.leaves(gradient(variables, 1, kept_in_second)))


@pytest.fixture
def small(monkeypatch):
    """Networks of few and narrow blocks, which compile in seconds."""
    monkeypatch.setitem(convnext.ARCHITECTURES, "tiny", ((1, 1, 1, 2), (4, 4, 8, 8)))
    monkeypatch.setitem(vit.ARCHITECTURES, "small", (8, 2))
    monkeypatch.setattr(vit, "BLOCKS", 1)
    monkeypatch.setitem(swin.ARCHITECTURES, "tiny", Architecture((1, 1, 1, 2), 4, (1, 1, 2, 2)))


def network(name, **settings):
    if name == "convnext":
        return ConvNeXt(variant="tiny", frozen_stages=0, **settings)
    if name == "vit":
        return ViT(variant="small", frozen_stages=0, **settings)
    return Swin(variant="tiny", version=1, frozen_stages=0, **settings)


@pytest.mark.parametrize("name", ["convnext", "swin"])
def test_the_last_block_of_a_backbone_is_skipped_in_its_share_of_the_images(name, small):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 32, 32, 3)), jnp.float32)
    always, never = network(name, stochastic_depth=1 - 1e-6), network(name)
    shapes = jax.eval_shape(lambda: never.init(jax.random.key(0), x, True))
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0.1, 0.1, leaf.shape), jnp.float32), shapes)
    found, plain = (jax.jit(net.apply, static_argnums=2)(variables, x, True, KEYS[:1]) for net in (always, never))
    np.testing.assert_allclose(found[0], plain[0], rtol=1e-4, atol=1e-5)  # the rate of the first block is 0
    assert (np.abs(found[3] - plain[3]) > 1e-3).any()


@pytest.mark.parametrize("name", ["convnext", "swin", "vit"])
def test_the_program_without_stochastic_depth_is_the_same_as_before(name, small):
    x = jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(lambda: network(name).init(jax.random.key(0), x, True))

    def program(rate, *keys, remat=False):
        net = network(name, stochastic_depth=rate, remat=remat)
        return str(jax.make_jaxpr(lambda v: net.apply(v, x, True, *keys))(variables))

    plain = program(0.0)
    assert program(0.0, KEYS[:1]) == program(0.5) == plain  # a rate of 0, or no keys
    assert "random_bits" not in plain and "random_bits" in program(0.5, KEYS[:1], remat=True)


class Watched(ConvNeXt):
    """Notes whether it got keys."""

    def __call__(self, x, train, keys=None):
        CALLS.append(keys is not None)
        return super().__call__(x, train, keys)


CALLS = []


def watched(rate):
    """A detector with this backbone, and the shapes of its variables."""
    detector = build_detector(tiny.model_config(), tiny.NUM_CLASSES, backbone=Watched("tiny", 0, stochastic_depth=rate))
    variables = jax.eval_shape(detector.init, jax.random.key(0), *INPUTS)
    CALLS.clear()
    return detector, variables


INPUTS = (*tiny.batch(1), KEYS[:1])


def test_the_detector_gives_keys_in_training_only(small):
    detector, variables = watched(0.5)
    jax.eval_shape(lambda v: detector.apply(v, *INPUTS, mutable=["batch_stats"]), variables)
    jax.eval_shape(lambda v: detector.apply(v, *INPUTS[:2]), variables)
    assert CALLS == [True, False]


def test_losses_of_an_evaluation_skip_nothing(small):
    detector, variables = watched(0.5)
    make_loss_step(detector, LOSSES).lower(variables, make_batch(1))
    assert CALLS == [False]
    assert detector.backbone.stochastic_depth == 0.5
    plain = build_detector(tiny.model_config(), tiny.NUM_CLASSES)
    assert plain.without_stochastic_depth() is plain
