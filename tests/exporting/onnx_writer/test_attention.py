"""Every attention gives what its flax module gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.exporting.onnx_writer import roi_features
from lga_jax.exporting.onnx_writer.attention import ATTENTIONS
from lga_jax.exporting.onnx_writer.roi_features import RoIFeatures
from lga_jax.models import build
from lga_jax.models.roi.crops import Levels, RoICrops
from tests.exporting.onnx_writer.running import channels_first, close, run, variables_of, weights_of
from tests.models import tiny

RNG = np.random.default_rng(0)
MAPS = [RNG.normal(size=(1, 20, 30, 16)).astype(np.float32)]
JAX_MAPS = [jnp.asarray(x) for x in MAPS]
C2 = [RNG.normal(size=(1, 20, 30, 12)).astype(np.float32)]
BOXES = np.float32([[0, 0, 60, 40], [5, 5, 25, 45], [30, 20, 90, 70]])
ROI_ALIGN = dict(crop_size=7, sampling_ratio=2, aligned=True)
CASES = {
    "lga": {},
    "lga_c2": dict(lga=dict(guide_level="c2")),
    "lga_concat": dict(lga=dict(mu="dense", sigma="isotropic", fusion="concat", reduced_channels=8, hidden=16)),
    "lga_literal": dict(lga=dict(mu="dense", sigma="isotropic", guide_level="pyramid", classifier="shared")),
    "cbam": {},
    "non_local": {},
    "squeeze_excitation": dict(squeeze_excitation=dict(reduction=4)),
    "deformable": dict(deformable=dict(hidden=16)),
    "none": {},
}


def attention_of(case):
    return "lga" if case.startswith("lga_") else case


def test_every_attention_is_written():
    assert set(ATTENTIONS) == set(build.ATTENTIONS.values())
    assert {attention_of(name) for name in CASES} == set(build.ATTENTIONS)


@pytest.mark.parametrize("case", CASES)
def test_it_gives_what_the_module_gives(case):
    config = tiny.model_config(attention=attention_of(case))
    for section, settings in CASES[case].items():
        config[section].update(settings)
    module = build.build_attention(config.to_dict(), 3)
    features = RoICrops(Levels(JAX_MAPS, jnp.asarray(C2[0])), jnp.asarray(BOXES[None]), (4,), ROI_ALIGN)
    variables = {"params": {}} | variables_of(module, features, False)
    expected = jax.jit(lambda v: module.apply(v, features, False))(variables)

    def attended(boxes, c2, *maps):
        features = RoIFeatures(roi_features.Levels(maps, c2), boxes, (4,), ROI_ALIGN)
        found = ATTENTIONS[type(module)](features, module, weights_of(variables))
        return [tensor for tensor in found if tensor is not None]

    fused, *gaussians = run(attended, BOXES, *map(channels_first, C2 + MAPS))
    close(fused, channels_first(expected.fused)[0], 2e-4)
    wanted = [] if expected.gaussians is None else [expected.gaussians.centres[0], expected.gaussians.sigmas[0]]
    for one, other in zip(gaussians, wanted, strict=True):
        close(one, other, 1e-4)
    half = run(attended, BOXES, *(channels_first(x).astype(np.float16) for x in C2 + MAPS))
    assert [x.dtype for x in half] == [np.float16] + [np.float32] * len(wanted)  # float16 files: the fused crops
    for one, other in zip(half, [fused, *gaussians], strict=True):
        assert 0 < np.abs(one - other).max() < 0.02 * np.abs(other).max()
