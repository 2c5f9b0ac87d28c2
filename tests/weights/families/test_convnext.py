import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from lga_jax.errors import UserError
from lga_jax.models.backbones import convnext
from lga_jax.models.backbones.convnext import ARCHITECTURES
from lga_jax.models.build import build_backbone
from lga_jax.weights.compatibility import PIXEL_MEAN, PIXEL_STD
from lga_jax.weights.files import Weights
from lga_jax.weights.load import load_pretrained

NARROW = ((3, 3, 9, 3), (4, 8, 16, 32))
SECTION = dict(name="convnext", variant="tiny", frozen_stages=2, remat=False)
MODEL = dict(dtype="float32", pixel_mean=PIXEL_MEAN, pixel_std=PIXEL_STD, init_strict=False, backbone=SECTION)


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setitem(convnext.ARCHITECTURES, "tiny", NARROW)


def published(whose):
    """The arrays of a file with the names and shapes of torchvision or timm."""
    random = np.random.default_rng(0)
    arrays = {}
    is_timm = whose == "timm"

    def layer(name, *shape):
        arrays[f"{name}.weight"] = random.normal(size=shape).astype(np.float32)
        arrays[f"{name}.bias"] = random.normal(size=shape[:1]).astype(np.float32)

    blocks, channels = ARCHITECTURES["tiny"]
    stem = "stem" if is_timm else "features.0"
    layer(f"{stem}.0", channels[0], 3, 4, 4)
    layer(f"{stem}.1", channels[0])
    for stage, (count, width) in enumerate(zip(blocks, channels, strict=True)):
        if stage:
            down = f"stages.{stage}.downsample" if is_timm else f"features.{2 * stage}"
            layer(f"{down}.0", channels[stage - 1])
            layer(f"{down}.1", width, channels[stage - 1], 2, 2)
        for number in range(count):
            block = f"stages.{stage}.blocks.{number}" if is_timm else f"features.{2 * stage + 1}.{number}"
            names = ("conv_dw", "norm", "mlp.fc1", "mlp.fc2") if is_timm else [f"block.{i}" for i in (0, 2, 3, 5)]
            shapes = ((width, 1, 7, 7), (width,), (4 * width, width), (width, 4 * width))
            for name, shape in zip(names, shapes, strict=True):
                layer(f"{block}.{name}", *shape)
            scale = random.normal(size=(width,) if is_timm else (width, 1, 1)).astype(np.float32)
            arrays[f"{block}.{'gamma' if is_timm else 'layer_scale'}"] = scale
    layer("head.norm" if is_timm else "classifier.0", channels[-1])
    layer("head.fc" if is_timm else "classifier.2", 10, channels[-1])
    return arrays


def load(arrays, **changes):
    backbone = build_backbone(MODEL)
    key = jax.eval_shape(lambda: jax.random.key(0))
    shapes = jax.eval_shape(lambda k: backbone.init(k, jnp.zeros((1, 32, 32, 3)), False), key)
    initial = {
        "params": {"backbone": jax.tree.map(lambda leaf: np.full(leaf.shape, np.nan, np.float32), shapes["params"])},
        "batch_stats": {},
    }
    return load_pretrained(Weights("w", arrays), initial, ("a",), MODEL | changes)


@pytest.mark.parametrize("whose", ["torchvision", "timm"])
def test_every_array_finds_its_place(whose):
    arrays = published(whose)
    variables, report = load(arrays)
    assert f"{whose}'s ConvNeXt, ConvNeXt tiny" in report and "in the file and not used: none" in report
    loaded = flatten_dict(variables["params"]["backbone"], sep="/")
    left = {key for key, value in loaded.items() if np.isnan(value).any()}
    assert left == {f"output{n}_norm/{leaf}" for n in (2, 3, 4, 5) for leaf in ("scale", "bias")}
    block = "stages.2.blocks.8" if whose == "timm" else "features.5.8"
    depthwise, dense, scale = (
        ("conv_dw", "mlp.fc2", "gamma") if whose == "timm" else ("block.0", "block.5", "layer_scale")
    )
    np.testing.assert_array_equal(
        loaded["layer3_8/depthwise/kernel"][:, :, 0], arrays[f"{block}.{depthwise}.weight"][:, 0].transpose(1, 2, 0)
    )
    np.testing.assert_array_equal(loaded["layer3_8/project/kernel"], arrays[f"{block}.{dense}.weight"].T)
    np.testing.assert_array_equal(loaded["layer3_8/layer_scale"], arrays[f"{block}.{scale}"].reshape(-1))
    down = "stages.3.downsample.0" if whose == "timm" else "features.6.0"
    np.testing.assert_array_equal(loaded["down4_norm/scale"], arrays[f"{down}.weight"])


def test_other_sizes_variants_and_pixels_are_refused():
    arrays = published("timm")
    with pytest.raises(UserError, match="one with \\(3, 3, 8, 3\\) blocks"):
        load({name: value for name, value in arrays.items() if "stages.2.blocks.8" not in name})
    with pytest.raises(UserError, match="from a variant"):
        load(arrays | {"stages.0.blocks.0.mlp.grn.weight": np.ones(16, np.float32)})
    with pytest.raises(UserError, match="model.pixel_std"):
        load(arrays, pixel_std=(1.0, 1.0, 1.0))
    with pytest.raises(UserError, match="expected a backbone of the recipe's family, resnet"):
        load(arrays, backbone=dict(name="resnet", depth=18, width=8, norm="gn", norm_eps=1e-5))
