"""Names as torchvision's published state dicts have them."""

import pytest

from lga_jax.weights.layouts import Slot
from lga_jax.weights.layouts.torchvision import torchvision_detector, torchvision_resnet


def names(layout, key):
    return layout.names(Slot.of(key))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("params/backbone/conv1/kernel", "conv1.weight"),
        ("batch_stats/backbone/norm1/bn/mean", "bn1.running_mean"),
        ("params/backbone/layer2_0/norm3/bn/scale", "layer2.0.bn3.weight"),
        ("params/backbone/layer4_1/conv2/kernel", "layer4.1.conv2.weight"),
        ("params/backbone/layer2_0/shortcut_conv/kernel", "layer2.0.downsample.0.weight"),
        ("batch_stats/backbone/layer2_0/shortcut_norm/bn/var", "layer2.0.downsample.1.running_var"),
    ],
)
def test_a_resnet(key, name):
    assert names(torchvision_resnet(), key) == [name]
    assert names(torchvision_detector(0), key) == [f"backbone.body.{name}"]
    assert torchvision_resnet().plain.match(name) and torchvision_resnet().backbone.match(name)


@pytest.mark.parametrize(
    ("key", "first", "second"),
    [
        ("params/fpn/lateral3/kernel", "backbone.fpn.inner_blocks.1.0.weight", "backbone.fpn.inner_blocks.1.0.weight"),
        ("params/fpn/output5_norm/bn/bias", "backbone.fpn.layer_blocks.3.1.bias", "backbone.fpn.layer_blocks.3.1.bias"),
        ("params/rpn/objectness/bias", "rpn.head.cls_logits.bias", "rpn.head.cls_logits.bias"),
        ("params/box_head/fc1/kernel", "roi_heads.box_head.fc6.weight", "roi_heads.box_head.5.weight"),
        ("params/box_head/conv2/kernel", "roi_heads.box_head.1.0.weight", "roi_heads.box_head.1.0.weight"),
        (
            "params/box_head/deltas/bias",
            "roi_heads.box_predictor.bbox_pred.bias",
            "roi_heads.box_predictor.bbox_pred.bias",
        ),
    ],
)
def test_a_detector_of_either_version(key, first, second):
    assert names(torchvision_detector(0), key)[0] == first
    assert names(torchvision_detector(4), key)[0] == second


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("params/mask_head/conv2/kernel", "roi_heads.mask_head.1.0.weight"),
        ("params/mask_head/conv1_norm/bn/scale", "roi_heads.mask_head.0.1.weight"),
        ("params/mask_head/deconv/bias", "roi_heads.mask_predictor.conv5_mask.bias"),
        ("params/mask_head/classes/kernel", "roi_heads.mask_predictor.mask_fcn_logits.weight"),
    ],
)
def test_a_mask_head(key, name):
    assert names(torchvision_detector(0, has_masks=True), key)[0] == name
    assert names(torchvision_detector(0), key) == []


def test_older_names_come_second():
    layout = torchvision_detector(0, has_masks=True)
    assert names(layout, "params/mask_head/conv3/bias")[1] == "roi_heads.mask_head.mask_fcn3.bias"
    assert names(layout, "params/fpn/lateral2/bias")[1] == "backbone.fpn.inner_blocks.0.bias"
    assert names(layout, "params/rpn/conv1/kernel")[1] == "rpn.head.conv.weight"
    assert layout.name_of("params/rpn/conv1/kernel", {"rpn.head.conv.weight"}) == "rpn.head.conv.weight"
    assert layout.name_of("params/rpn/conv1/kernel", {"rpn.head.conv.bias"}) is None


def test_attention_group_norm_and_the_stages_of_a_cascade_have_no_names_there():
    for key in (
        "params/attention/reduce/kernel",
        "params/backbone/norm1/gn/scale",
        "params/stages_1/box_head/fc1/kernel",
    ):
        assert names(torchvision_detector(0), key) == []


def test_the_published_weights_of_version_one_have_norms_without_epsilon():
    assert torchvision_detector(0, is_coco_v1=True).computes["backbone.norm_eps"] == 0.0
    assert torchvision_detector(4).computes["backbone.norm_eps"] == 1e-5
    assert torchvision_detector(0).loose == ("backbone.norm_eps",) and torchvision_detector(4).loose == ()
