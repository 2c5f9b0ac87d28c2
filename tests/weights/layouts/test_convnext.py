"""Names as the files of torchvision and timm have them."""

import pytest

from lga_jax.weights.layouts import Slot
from lga_jax.weights.layouts.convnext import timm_convnext, torchvision_convnext


@pytest.mark.parametrize(
    ("module", "torchvision", "timm"),
    [
        ("stem/kernel", "features.0.0.weight", "stem.0.weight"),
        ("stem_norm/scale", "features.0.1.weight", "stem.1.weight"),
        ("layer1_2/depthwise/bias", "features.1.2.block.0.bias", "stages.0.blocks.2.conv_dw.bias"),
        ("layer3_8/norm/scale", "features.5.8.block.2.weight", "stages.2.blocks.8.norm.weight"),
        ("layer4_0/expand/kernel", "features.7.0.block.3.weight", "stages.3.blocks.0.mlp.fc1.weight"),
        ("layer4_0/project/kernel", "features.7.0.block.5.weight", "stages.3.blocks.0.mlp.fc2.weight"),
        ("layer2_1/layer_scale", "features.3.1.layer_scale", "stages.1.blocks.1.gamma"),
        ("down2_norm/bias", "features.2.0.bias", "stages.1.downsample.0.bias"),
        ("down4/kernel", "features.6.1.weight", "stages.3.downsample.1.weight"),
    ],
)
def test_names(module, torchvision, timm):
    slot = Slot.of(f"params/backbone/{module}")
    for layout, name in ((torchvision_convnext(), torchvision), (timm_convnext(), timm)):
        assert layout.names(slot) == [name]
        assert layout.backbone.match(name) and layout.plain.match(name) and not layout.ignored.match(name)


def test_the_norms_of_the_outputs_have_no_names_and_the_classifier_is_ignored():
    for layout, head in ((torchvision_convnext(), "classifier.2.weight"), (timm_convnext(), "head.norm.bias")):
        assert layout.names(Slot.of("params/backbone/output2_norm/scale")) == []
        assert layout.ignored.match(head)
