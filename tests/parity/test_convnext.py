"""ConvNeXt with torchvision's and timm's weights, against their own networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.models.build import build_backbone
from lga_jax.weights.compatibility import PIXEL_MEAN, PIXEL_STD
from lga_jax.weights.files import Weights
from lga_jax.weights.load import load_pretrained
from tests.parity.reference import channels_first, channels_last, torch

SECTION = dict(name="convnext", variant="tiny", frozen_stages=0, remat=False)
MODEL = dict(dtype="float32", pixel_mean=PIXEL_MEAN, pixel_std=PIXEL_STD, init_strict=False, backbone=SECTION)


@functools.cache
def theirs(whose):
    """Their ConvNeXt-T with random weights; layer scales are large, so that every block counts."""
    library = pytest.importorskip(whose, reason=f"compares with {whose}; `make test-parity` installs it")
    torch.manual_seed(0)
    network = library.models.convnext_tiny() if whose == "torchvision" else library.create_model("convnext_tiny")
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith(("layer_scale", "gamma")):
                value.uniform_(0.2, 0.5)
            elif value.ndim == 1:
                value.uniform_(0.5, 1.5)
    return network.eval()


def ours(network):
    backbone = build_backbone(MODEL)
    initial = jax.eval_shape(lambda: backbone.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), False))["params"]
    shaped = {"params": {"backbone": jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), initial)}}
    arrays = {name: value.numpy() for name, value in network.state_dict().items()}
    variables, _ = load_pretrained(Weights("w", arrays), shaped | {"batch_stats": {}}, ("a",), MODEL)
    params = variables["params"]["backbone"]
    for n in (2, 3, 4, 5):
        params[f"output{n}_norm"]["scale"] = np.ones_like(params[f"output{n}_norm"]["scale"])
    return jax.jit(lambda x: backbone.apply({"params": params}, x, False))


@pytest.mark.parametrize("whose", ["torchvision", "timm"])
def test_each_stage(record, rng, whose):
    """The outputs of the stages, after a layer norm without scale and bias."""
    network = theirs(whose)
    images = rng.uniform(-2, 2, (2, 96, 64, 3)).astype(np.float32)
    stages = [network.features[i] for i in (1, 3, 5, 7)] if whose == "torchvision" else list(network.stages)
    outputs = []
    hooks = [stage.register_forward_hook(lambda *call: outputs.append(call[-1])) for stage in stages]
    with torch.no_grad():
        network(channels_first(images))
        normal = [torch.nn.functional.layer_norm(y.permute(0, 2, 3, 1), y.shape[1:2], eps=1e-6) for y in outputs]
    for hook in hooks:
        hook.remove()
    for level, y in zip(ours(network)(jnp.asarray(images)), normal, strict=True):
        record.near("backbone", f"ConvNeXt-T of {whose}, C2 to C5", level, channels_last(y.permute(0, 3, 1, 2)))
