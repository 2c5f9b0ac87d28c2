"""Names as the files of torchvision and timm have them."""

import pytest

from lga_jax.weights.layouts import Slot
from lga_jax.weights.layouts.swin import timm_swin, torchvision_swin


@pytest.mark.parametrize(
    ("module", "torchvision", "timm"),
    [
        ("stem/kernel", "features.0.0.weight", "patch_embed.proj.weight"),
        ("stem_norm/scale", "features.0.2.weight", "patch_embed.norm.weight"),
        ("layer1_1/norm1/bias", "features.1.1.norm1.bias", "layers.0.blocks.1.norm1.bias"),
        ("layer3_5/attention/qkv/kernel", "features.5.5.attn.qkv.weight", "layers.2.blocks.5.attn.qkv.weight"),
        ("layer3_5/attention/project/bias", "features.5.5.attn.proj.bias", "layers.2.blocks.5.attn.proj.bias"),
        (
            "layer2_0/attention/bias_table",
            "features.3.0.attn.relative_position_bias_table",
            "layers.1.blocks.0.attn.relative_position_bias_table",
        ),
        ("layer4_0/expand/kernel", "features.7.0.mlp.0.weight", "layers.3.blocks.0.mlp.fc1.weight"),
        ("layer4_0/shrink/bias", "features.7.0.mlp.3.bias", "layers.3.blocks.0.mlp.fc2.bias"),
        ("merge2_norm/bias", "features.2.norm.bias", "layers.1.downsample.norm.bias"),
        ("merge4/kernel", "features.6.reduction.weight", "layers.3.downsample.reduction.weight"),
    ],
)
def test_names(module, torchvision, timm):
    slot = Slot.of(f"params/backbone/{module}")
    for layout, name in ((torchvision_swin(), torchvision), (timm_swin(merges_first=True), timm)):
        assert layout.names(slot) == [name]
        assert layout.backbone.match(name) and not layout.ignored.match(name)


def test_version_2_and_older_files_of_timm():
    layout = torchvision_swin()
    assert layout.names(Slot.of("params/backbone/layer1_0/attention/logit_scale")) == ["features.1.0.attn.logit_scale"]
    hidden = Slot.of("params/backbone/layer1_0/attention/bias_expand/kernel")
    assert layout.names(hidden) == ["features.1.0.attn.cpb_mlp.0.weight"]
    bias = Slot.of("params/backbone/layer1_0/attention/qkv/bias")
    assert layout.names(bias) == ["features.1.0.attn.qkv.bias"]
    assert timm_swin(merges_first=True).names(bias) == [
        "layers.0.blocks.0.attn.qkv.bias",
        "layers.0.blocks.0.attn.q_bias",
    ]
    merging = Slot.of("params/backbone/merge2/kernel")
    assert timm_swin(merges_first=False).names(merging) == ["layers.0.downsample.reduction.weight"]


def test_the_norms_of_the_outputs_have_no_names_and_constants_are_ignored():
    for layout, prefix in ((torchvision_swin(), "features.1.0"), (timm_swin(True), "layers.0.blocks.0")):
        assert layout.names(Slot.of("params/backbone/output2_norm/scale")) == []
        for name in (f"{prefix}.attn.relative_position_index", "norm.weight", "head.bias"):
            assert layout.ignored.match(name)
