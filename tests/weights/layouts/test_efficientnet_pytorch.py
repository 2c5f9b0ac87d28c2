"""Names as the published files of EfficientNet-Lite have them."""

import pytest

from lga_jax.weights.layouts import Slot
from lga_jax.weights.layouts.efficientnet_pytorch import efficientnet_pytorch

BLOCKS = {0: 16, 1: 21, 2: 21}


def layout(variant=0):
    return efficientnet_pytorch([f"_blocks.{number}._bn1.weight" for number in range(BLOCKS[variant])])


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("params/backbone/conv1/kernel", "_conv_stem.weight"),
        ("batch_stats/backbone/norm1/bn/var", "_bn0.running_var"),
        ("params/backbone/layer0_0/depthwise/kernel", "_blocks.0._depthwise_conv.weight"),
        ("params/backbone/layer0_0/project_norm/bn/scale", "_blocks.0._bn2.weight"),
        ("params/backbone/layer1_1/expand/kernel", "_blocks.2._expand_conv.weight"),
        ("params/backbone/layer3_5/expand_norm/bn/bias", "_blocks.10._bn0.bias"),
        ("batch_stats/backbone/layer4_4/depthwise_norm/bn/mean", "_blocks.15._bn1.running_mean"),
    ],
)
def test_a_backbone(key, name):
    assert layout().names(Slot.of(key)) == [name]
    assert layout().backbone.match(name) and layout().plain.match(name) and not layout().ignored.match(name)


def test_blocks_of_the_deeper_variants():
    for variant in (1, 2):
        names = [
            layout(variant).names(Slot.of(f"params/backbone/{m}/project/kernel"))[0] for m in ("layer2_0", "layer4_5")
        ]
        assert names == ["_blocks.4._project_conv.weight", "_blocks.20._project_conv.weight"]


def test_the_classifier_is_ignored_and_squeeze_and_excitation_is_not_plain():
    for name in ("_conv_head.weight", "_bn1.running_mean", "_fc.bias", "_blocks.3._bn0.num_batches_tracked"):
        assert layout().ignored.match(name)
    assert not layout().plain.match("_blocks.0._se_reduce.weight")
    assert layout().pixels == "tensorflow"
