"""Names as the files of Detectron2's model zoo have them."""

import pytest

from lga_jax.weights.layouts import Slot
from lga_jax.weights.layouts.detectron2 import detectron2


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("params/backbone/conv1/kernel", "stem.conv1.weight"),
        ("batch_stats/backbone/norm1/bn/var", "stem.conv1.norm.running_var"),
        ("params/backbone/layer1_2/conv3/kernel", "res2.2.conv3.weight"),
        ("params/backbone/layer3_0/shortcut_norm/bn/bias", "res4.0.shortcut.norm.bias"),
    ],
)
def test_a_resnet(key, name):
    assert detectron2(detector=False).names(Slot.of(key)) == [name]
    assert detectron2(detector=True).names(Slot.of(key)) == [f"backbone.bottom_up.{name}"]
    assert detectron2(detector=False).plain.match(name)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("params/fpn/lateral2/kernel", "backbone.fpn_lateral2.weight"),
        ("params/fpn/output3_norm/bn/scale", "backbone.fpn_output3.norm.weight"),
        ("params/rpn/conv1/kernel", "proposal_generator.rpn_head.conv.weight"),
        ("params/rpn/conv2/kernel", "proposal_generator.rpn_head.conv.conv1.weight"),
        ("params/rpn/deltas/bias", "proposal_generator.rpn_head.anchor_deltas.bias"),
        ("params/box_head/fc2/kernel", "roi_heads.box_head.fc2.weight"),
        ("params/box_head/classes/kernel", "roi_heads.box_predictor.cls_score.weight"),
    ],
)
def test_a_detector(key, name):
    assert detectron2(detector=True).names(Slot.of(key))[0] == name
    assert detectron2(detector=False).names(Slot.of(key)) == []


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("params/box_head/fc1/kernel", "roi_heads.box_head.0.fc1.weight"),
        ("params/box_head/deltas/bias", "roi_heads.box_predictor.0.bbox_pred.bias"),
        ("params/stages_2/box_head/fc2/bias", "roi_heads.box_head.2.fc2.bias"),
        ("params/stages_1/box_head/classes/kernel", "roi_heads.box_predictor.1.cls_score.weight"),
    ],
)
def test_a_cascade(key, name):
    layout = detectron2(detector=True, num_stages=3)
    assert layout.names(Slot.of(key)) == [name]
    assert layout.title == "Detectron2's Cascade R-CNN" and layout.parts[-2:] == ("stages_1", "stages_2")
    assert layout.computes["box_head.class_agnostic"]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("params/mask_head/conv4/bias", "roi_heads.mask_head.mask_fcn4.bias"),
        ("params/mask_head/conv1_norm/bn/var", "roi_heads.mask_head.mask_fcn1.norm.running_var"),
        ("params/mask_head/deconv/kernel", "roi_heads.mask_head.deconv.weight"),
        ("params/mask_head/classes/bias", "roi_heads.mask_head.predictor.bias"),
    ],
)
def test_a_mask_head(key, name):
    assert detectron2(detector=True, has_masks=True).names(Slot.of(key))[0] == name
    assert detectron2(detector=True).names(Slot.of(key)) == []


def test_only_a_detector_says_what_it_computes():
    assert detectron2(detector=True).computes["roi_align.sampling_ratio"] == 0
    assert detectron2(detector=False).computes == {}
