import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.errors import UserError
from lga_jax.models.pretrained import load_pretrained
from lga_jax.models.resnet import ResNet

NET = ResNet(depth=18, width=8, norm="frozen_bn", frozen_stages=0)
IMAGE = jnp.asarray(np.random.default_rng(0).normal(size=(1, 64, 64, 3)), jnp.float32)


@functools.cache
def initial():
    variables = jax.jit(lambda k: NET.init(k, IMAGE, False))(jax.random.key(0))
    return {collection: {"backbone": tree, "fpn": {"w": jnp.ones(2)}} for collection, tree in variables.items()}


def torchvision_arrays(seed=0):
    """A ResNet-18 of width 8 under torchvision's names, with batch norm by itself."""
    random = np.random.default_rng(seed)
    arrays = {}

    def add(conv, norm, shape):
        arrays[f"{conv}.weight"] = random.normal(size=shape).astype(np.float32) * 0.2
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{norm}.{leaf}"] = random.uniform(0.5, 1.5, shape[0]).astype(np.float32)

    add("conv1", "bn1", (8, 3, 7, 7))
    previous = 8
    for stage in range(1, 5):
        width = 8 * 2 ** (stage - 1)
        for block in range(2):
            name = f"layer{stage}.{block}"
            add(f"{name}.conv1", f"{name}.bn1", (width, previous, 3, 3))
            add(f"{name}.conv2", f"{name}.bn2", (width, width, 3, 3))
            if previous != width:
                add(f"{name}.downsample.0", f"{name}.downsample.1", (width, previous, 1, 1))
            previous = width
    return arrays


def fold(arrays):
    """Batch norm folded into weight and bias of its convolution, as files for inference have it."""
    folded = {}
    for name in [n for n in arrays if n.endswith("running_var")]:
        norm = name.removesuffix(".running_var")
        conv = norm.replace("bn", "conv").replace("downsample.1", "downsample.0")
        scale = arrays[f"{norm}.weight"] / np.sqrt(arrays[f"{norm}.running_var"] + 1e-5)
        folded[f"{conv}.weight"] = arrays[f"{conv}.weight"] * scale[:, None, None, None]
        folded[f"{conv}.bias"] = arrays[f"{norm}.bias"] - arrays[f"{norm}.running_mean"] * scale
    return folded


def save(path, arrays):
    np.savez(path, **arrays)
    return str(path)


@jax.jit
def features(variables):
    return NET.apply({collection: tree["backbone"] for collection, tree in variables.items()}, IMAGE, False)


def test_every_array_finds_its_place(tmp_path):
    arrays = torchvision_arrays()
    variables, report = load_pretrained(save(tmp_path / "w.npz", arrays), initial())
    assert "20 convolutions" in report and "starts at random: nothing" in report and "not used: nothing" in report
    np.testing.assert_array_equal(
        variables["params"]["backbone"]["layer2_0"]["shortcut_conv"]["kernel"][0, 0],
        arrays["layer2.0.downsample.0.weight"][:, :, 0, 0].T,
    )
    np.testing.assert_array_equal(
        variables["batch_stats"]["backbone"]["layer2_0"]["shortcut_norm"]["bn"]["mean"],
        arrays["layer2.0.downsample.1.running_mean"],
    )
    np.testing.assert_array_equal(variables["params"]["fpn"]["w"], 1.0)


def test_folded_file_computes_the_same(tmp_path):
    arrays = torchvision_arrays()
    apart, _ = load_pretrained(save(tmp_path / "apart.npz", arrays), initial())
    folded, report = load_pretrained(save(tmp_path / "folded.npz", fold(arrays)), initial())
    assert "not used: nothing" in report
    for one, other in zip(features(apart), features(folded), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_part_of_a_network_says_what_starts_at_random(tmp_path):
    arrays = fold(torchvision_arrays())
    del arrays["layer4.1.conv2.weight"]
    arrays["fc.weight"] = np.zeros((10, 64), np.float32)
    start = initial()
    variables, report = load_pretrained(save(tmp_path / "w.npz", arrays), start)
    assert "starts at random: layer4_1/conv2/kernel\n" in report
    assert "not used: fc.weight, layer4.1.conv2.bias" in report  # a bias is nothing without its convolution
    np.testing.assert_array_equal(
        variables["params"]["backbone"]["layer4_1"]["conv2"]["kernel"],
        start["params"]["backbone"]["layer4_1"]["conv2"]["kernel"],
    )


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off"])
def test_file_of_another_kind_is_one_line(tmp_path, content):
    path = tmp_path / "w.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model.init_from: .*w.npz: expected an .npz file of arrays") as caught:
        load_pretrained(str(path), initial())
    assert "\n" not in str(caught.value)


def test_pickled_objects_are_never_loaded(tmp_path):
    path = save(tmp_path / "w.npz", {"conv1.weight": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(UserError, match="could not read it"):
        load_pretrained(path, initial())


def test_missing_file_other_names_and_other_shapes_are_named(tmp_path):
    with pytest.raises(UserError, match="expected a file, found none at"):
        load_pretrained(str(tmp_path / "none.npz"), initial())
    with pytest.raises(UserError, match="expected torchvision's ResNet parameter names .* found stem"):
        load_pretrained(save(tmp_path / "names.npz", {"stem": np.zeros(3)}), initial())
    arrays = torchvision_arrays() | {"layer1.0.conv1.weight": np.zeros((64, 64, 3, 3), np.float32)}
    with pytest.raises(UserError, match=r"layer1.0.conv1.weight: expected .*\(3, 3, 8, 8\).* found \(3, 3, 64, 64\)"):
        load_pretrained(save(tmp_path / "shapes.npz", arrays), initial())
