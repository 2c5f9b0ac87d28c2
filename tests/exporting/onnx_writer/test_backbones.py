"""Every family of backbones gives the features of its flax module."""

import jax
import numpy as np
import pytest

from lga_jax.exporting.onnx_writer.backbones import BACKBONES
from lga_jax.models import build
from lga_jax.models.backbones import convnext, swin, vit
from tests.exporting.onnx_writer.running import channels_first, run, variables_of, weights_of

CASES = {
    "basic": ("resnet", dict(depth=18, width=8, norm="gn", frozen_stages=0)),
    "bottleneck": ("resnet", dict(depth=50, width=4, norm="bn", frozen_stages=0)),
    "stride_in_1x1": ("resnet", dict(depth=50, width=4, norm="frozen_bn", frozen_stages=0, stride_in_1x1=True)),
    "convnext": ("convnext", dict(variant="tiny", frozen_stages=0)),
    "efficientnet_lite": ("efficientnet_lite", dict(variant=0, norm="bn", frozen_stages=0)),
    "swin": ("swin", dict(variant="tiny", version=1, frozen_stages=0)),
    "vit": ("vit", dict(variant="small", frozen_stages=0)),
    "swin_v2": ("swin", dict(variant="tiny", version=2, frozen_stages=0)),
}


def test_every_family_is_written():
    assert set(BACKBONES) == set(build.BACKBONES.values())
    assert {family for family, _ in CASES.values()} == set(build.BACKBONES)


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """A small ConvNeXt, Swin and ViT; the other families are narrow by their settings."""
    monkeypatch.setitem(convnext.ARCHITECTURES, "tiny", ((1, 2, 1, 1), (8, 8, 16, 16)))
    monkeypatch.setitem(vit.ARCHITECTURES, "small", (8, 2))
    monkeypatch.setattr(vit, "WINDOW", 2)
    monkeypatch.setitem(swin.ARCHITECTURES, "tiny", swin.Architecture((2, 1, 1, 1), 4, (1, 2, 2, 4)))


@pytest.mark.parametrize("case", CASES)
def test_its_features_are_those_of_the_module(case):
    family, settings = CASES[case]
    module = build.BACKBONES[family](**settings)
    x = np.random.default_rng(0).normal(size=(1, 45, 70, 3)).astype(np.float32)  # odd sides on all levels
    variables = variables_of(module, x, False)
    expected = jax.jit(lambda v, x: module.apply(v, x, False))(variables, x)
    found = run(lambda x: BACKBONES[type(module)](x, module, weights_of(variables)), channels_first(x))
    half = run(
        lambda x: BACKBONES[type(module)](x, module, weights_of(variables)), channels_first(x).astype(np.float16)
    )
    for one, other in zip(half, found, strict=True):
        assert one.dtype == np.float16 and np.abs(one - other).max() < 0.03 * np.abs(other).max()
    for one, other in zip(found, expected, strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one / scale, channels_first(other) / scale, atol=1e-4)
