"""Names as the files of torchvision and timm have them."""

import pytest

from lga_jax.weights.layouts import Slot
from lga_jax.weights.layouts.vit import timm_vit, torchvision_vit

_LAYER = "encoder.layers.encoder_layer_"


@pytest.mark.parametrize(
    ("module", "torchvision", "timm"),
    [
        ("stem/kernel", "conv_proj.weight", "patch_embed.proj.weight"),
        ("stem_position", "encoder.pos_embedding", "pos_embed"),
        ("layer1_0/norm1/scale", f"{_LAYER}0.ln_1.weight", "blocks.0.norm1.weight"),
        ("layer2_2/attention/qkv/kernel", f"{_LAYER}5.self_attention.in_proj_weight", "blocks.5.attn.qkv.weight"),
        ("layer2_2/attention/qkv/bias", f"{_LAYER}5.self_attention.in_proj_bias", "blocks.5.attn.qkv.bias"),
        ("layer4_2/attention/project/bias", f"{_LAYER}11.self_attention.out_proj.bias", "blocks.11.attn.proj.bias"),
        ("layer3_0/expand/kernel", f"{_LAYER}6.mlp.0.weight", "blocks.6.mlp.fc1.weight"),
        ("layer3_1/shrink/bias", f"{_LAYER}7.mlp.3.bias", "blocks.7.mlp.fc2.bias"),
    ],
)
def test_names(module, torchvision, timm):
    slot = Slot.of(f"params/backbone/{module}")
    for layout, name in ((torchvision_vit(), torchvision), (timm_vit(False), timm)):
        assert layout.names(slot)[0] == name
        assert layout.backbone.match(name) and layout.plain.match(name) and not layout.ignored.match(name)


def test_older_files_of_torchvision():
    slot = Slot.of("params/backbone/layer1_0/expand/bias")
    assert torchvision_vit().names(slot)[1] == f"{_LAYER}0.mlp.linear_1.bias"


def test_the_pyramid_has_no_names_and_the_rest_of_a_classifier_is_ignored():
    for layout, names in (
        (torchvision_vit(), ("class_token", "encoder.ln.weight", "heads.head.bias")),
        (timm_vit(False), ("cls_token", "norm.weight", "fc_norm.bias", "head.weight", "mask_token")),
    ):
        assert layout.names(Slot.of("params/backbone/output2_up1/kernel")) == []
        assert all(layout.ignored.match(name) and not layout.plain.match(name) for name in names)
