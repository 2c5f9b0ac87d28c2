"""Swin Transformers with torchvision's and timm's weights, against their own networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.models.build import build_backbone
from lga_jax.weights.compatibility import PIXEL_MEAN, PIXEL_STD
from lga_jax.weights.files import Weights
from lga_jax.weights.load import load_pretrained
from tests.parity.reference import channels_first, torch

TORCHVISION = {1: "swin_t", 2: "swin_v2_t"}
# Sides that windows do not divide; timm's networks want the size of their own training.
HW = {("torchvision", 1): (104, 72), ("torchvision", 2): (104, 72), ("timm", 1): (224, 224), ("timm", 2): (256, 256)}
TIMM = {1: "swin_tiny_patch4_window7_224", 2: "swinv2_tiny_window8_256"}


def model(version):
    section = dict(name="swin", variant="tiny", version=version, frozen_stages=0, remat=False)
    return dict(dtype="float32", pixel_mean=PIXEL_MEAN, pixel_std=PIXEL_STD, init_strict=False, backbone=section)


@functools.cache
def theirs(whose, version):
    """Their Swin-T with random weights; biases are large, so that every one counts."""
    library = pytest.importorskip(whose, reason=f"compares with {whose}; `make test-parity` installs it")
    torch.manual_seed(0)
    if whose == "torchvision":
        network = getattr(library.models, TORCHVISION[version])()
    else:
        network = library.create_model(TIMM[version])
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim == 1:
                value.uniform_(0.5, 1.5)
            elif "bias_table" in name or "logit_scale" in name:
                value.uniform_(-1.0, 3.0)
    return network.eval()


def ours(network, version):
    backbone = build_backbone(model(version))
    initial = jax.eval_shape(lambda: backbone.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), False))["params"]
    shaped = {"params": {"backbone": jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), initial)}}
    arrays = {name: value.numpy() for name, value in network.state_dict().items()}
    variables, _ = load_pretrained(Weights("w", arrays), shaped | {"batch_stats": {}}, ("a",), model(version))
    params = variables["params"]["backbone"]
    for n in (2, 3, 4, 5):
        params[f"output{n}_norm"]["scale"] = np.ones_like(params[f"output{n}_norm"]["scale"])
    return jax.jit(lambda x: backbone.apply({"params": params}, x, False))


@pytest.mark.parametrize(("whose", "version"), [("torchvision", 1), ("torchvision", 2), ("timm", 1), ("timm", 2)])
def test_each_stage(record, rng, whose, version):
    """The outputs of the stages, after a layer norm without scale and bias."""
    network = theirs(whose, version)
    images = rng.uniform(-2, 2, (1, *HW[whose, version], 3)).astype(np.float32)
    stages = [network.features[i] for i in (1, 3, 5, 7)] if whose == "torchvision" else list(network.layers)
    outputs = []
    hooks = [stage.register_forward_hook(lambda *call: outputs.append(call[-1])) for stage in stages]
    with torch.no_grad():
        network(channels_first(images))
        normal = [torch.nn.functional.layer_norm(y, y.shape[3:], eps=1e-5) for y in outputs]
    for hook in hooks:
        hook.remove()
    for level, y in zip(ours(network, version)(jnp.asarray(images)), normal, strict=True):
        record.near("backbone", f"Swin-T, version {version}, of {whose}, C2 to C5", level, y.numpy())
