"""Plain Vision Transformers with torchvision's and timm's weights, against their own blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.models.backbones.vit import Block
from lga_jax.models.build import build_backbone
from lga_jax.weights.compatibility import PIXEL_MEAN, PIXEL_STD
from lga_jax.weights.files import Weights
from lga_jax.weights.load import load_pretrained
from tests.parity.reference import channels_first, torch

HW = (240, 368)  # 15 x 23 cells: two windows of 14 x 14 on each axis
VARIANTS = {"torchvision": "base", "timm": "small"}


@functools.cache
def theirs(whose):
    """Their ViT with random weights; positions, scales and biases are large, so that every one counts."""
    library = pytest.importorskip(whose, reason=f"compares with {whose}; `make test-parity` installs it")
    torch.manual_seed(0)
    network = library.models.vit_b_16() if whose == "torchvision" else library.create_model("vit_small_patch16_224")
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim == 1:
                value.uniform_(0.5, 1.5)
            elif "pos_embed" in name:
                value.normal_()
    return network.eval()


def attend(block, x):
    """Their attention of tokens [n t c] that are normal already."""
    if hasattr(block, "self_attention"):
        return block.self_attention(x, x, x, need_weights=False)[0]
    return block.attn(x)


def windowed(block, x, side=14):
    """[1 h w c] through the layers of one of their blocks, with attention in windows that zeros complete (ViTDet)."""
    first, second = (block.ln_1, block.ln_2) if hasattr(block, "ln_1") else (block.norm1, block.norm2)
    _, height, width, channels = x.shape
    rows, columns = -(-height // side), -(-width // side)
    y = torch.nn.functional.pad(first(x), (0, 0, 0, columns * side - width, 0, rows * side - height))
    y = y.reshape(rows, side, columns, side, channels).permute(0, 2, 1, 3, 4).reshape(-1, side * side, channels)
    y = attend(block, y).reshape(rows, columns, side, side, channels).permute(0, 2, 1, 3, 4)
    x = x + y.reshape(1, rows * side, columns * side, channels)[:, :height, :width]
    return x + block.mlp(second(x))


def their_maps(whose, network, images):
    """The map before the first block and after every third one, whose attention is theirs without windows."""
    if whose == "torchvision":
        stem, stored, blocks = network.conv_proj, network.encoder.pos_embedding, network.encoder.layers
    else:
        stem, stored, blocks = network.patch_embed.proj, network.pos_embed, network.blocks
    x = stem(images)
    grid = stored[:, 1:].reshape(1, 14, 14, -1).permute(0, 3, 1, 2)
    x = x + torch.nn.functional.interpolate(grid, x.shape[2:], mode="bicubic", align_corners=False)
    maps = [x.permute(0, 2, 3, 1)]
    for first in range(0, 12, 3):
        x = windowed(blocks[first + 1], windowed(blocks[first], maps[-1]))
        maps.append(blocks[first + 2](x.reshape(1, -1, x.shape[3])).reshape(x.shape))
    return maps


def ours(whose, network):
    section = dict(name="vit", variant=VARIANTS[whose], frozen_stages=0, remat=False)
    pixels = dict(pixel_mean=PIXEL_MEAN, pixel_std=PIXEL_STD)
    model = dict(dtype="float32", init_strict=False, backbone=section) | pixels
    backbone = build_backbone(model)
    initial = jax.eval_shape(lambda: backbone.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), False))["params"]
    rng = np.random.default_rng(1)
    drawn = jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), initial)
    arrays = {name: value.numpy() for name, value in network.state_dict().items()}
    shaped = {"params": {"backbone": drawn}, "batch_stats": {}}
    variables, report = load_pretrained(Weights("w", arrays), shaped, ("a",), model)
    assert "in the file and not used: none" in report
    return backbone, variables["params"]["backbone"]


def their_pyramid(x, params):
    """ViTDet's simple pyramid of a map [1 c h w], in operations of torch."""
    functional = torch.nn.functional

    def deconv(x, name):
        kernel = torch.tensor(params[name]["kernel"]).permute(2, 3, 0, 1)
        return functional.conv_transpose2d(x, kernel, torch.tensor(params[name]["bias"]), stride=2)

    def norm(x, name):
        scale, bias = (torch.tensor(params[name][leaf]) for leaf in ("scale", "bias"))
        return functional.layer_norm(x.permute(0, 2, 3, 1), scale.shape, scale, bias, eps=1e-6)

    fine = functional.gelu(norm(deconv(x, "output2_up1"), "output2_up1_norm")).permute(0, 3, 1, 2)
    coarse = functional.max_pool2d(x, 2, ceil_mode=True)
    maps = [deconv(fine, "output2_up2"), deconv(x, "output3_up"), x, coarse]
    return [norm(level, f"output{number}_norm") for number, level in enumerate(maps, start=2)]


@pytest.mark.parametrize("whose", VARIANTS)
def test_each_part_and_the_pyramid(record, rng, whose):
    network = theirs(whose)
    images = rng.uniform(-2, 2, (1, *HW, 3)).astype(np.float32)
    with torch.no_grad():
        maps = their_maps(whose, network, channels_first(images))
    backbone, params = ours(whose, network)
    kept = dict(capture_intermediates=lambda module, _: isinstance(module, Block), mutable="intermediates")
    apply = jax.jit(lambda params, x: backbone.apply({"params": params}, x, False, **kept))
    levels, seen = apply(params, jnp.asarray(images))
    part = f"ViT-{VARIANTS[whose][0].upper()} of {whose}"
    for number, expected in enumerate(maps[1:], start=1):
        found = seen["intermediates"][f"layer{number}_2"]["__call__"][0]
        record.near("backbone", f"{part}, every third block", found, expected.numpy())
    with torch.no_grad():
        expected = their_pyramid(maps[-1].permute(0, 3, 1, 2), params)
    for level, one in zip(levels, expected, strict=True):
        record.near("backbone", f"{part}, simple pyramid in operations of torch", level, one.numpy())
