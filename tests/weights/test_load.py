import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from lga_jax.models.backbones.resnet import ResNet
from lga_jax.weights.files import Weights
from lga_jax.weights.load import load_pretrained
from tests.weights import foreign
from tests.weights.loading import (
    ABC,
    CAFFE,
    CLASSES,
    COCO_ANCHORS,
    FROZEN,
    STAYS,
    V1,
    V2,
    at,
    initial,
    load,
    model,
    own,
    refused,
    without,
)


def test_every_array_of_a_resnet_finds_its_place():
    arrays = foreign.resnet() | {"fc.weight": np.ones((10, 64), np.float32), "fc.bias": np.ones(10, np.float32)}
    variables, report = load(arrays, FROZEN)
    shortcut = at(variables, "params/backbone/layer2_0/shortcut_conv/kernel")
    np.testing.assert_array_equal(shortcut[0, 0], arrays["layer2.0.downsample.0.weight"][:, :, 0, 0].T)
    kernel = at(variables, "params/backbone/conv1/kernel")
    np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), arrays["conv1.weight"])
    for leaf, name in (("scale", "weight"), ("bias", "bias"), ("mean", "running_mean"), ("var", "running_var")):
        found = at(variables, f"batch_stats/backbone/layer2_0/shortcut_norm/bn/{leaf}")
        np.testing.assert_array_equal(found, arrays[f"layer2.0.downsample.1.{name}"])
        np.testing.assert_array_equal(
            at(variables, f"batch_stats/backbone/layer4_1/norm2/bn/{leaf}"), arrays[f"layer4.1.bn2.{name}"]
        )
    assert at(variables, "params/fpn/lateral2/kernel").min() >= STAYS  # as it was
    lines = report.splitlines()
    assert lines[0] == "weights w: torchvision's ResNet, ResNet-18"
    assert lines[1].startswith("  loaded into backbone: 100 arrays, ")
    assert lines[1].endswith("such as conv1.weight (8, 3, 7, 7) -> backbone/conv1/kernel (7, 7, 3, 8)")
    assert "  left at initial values: none" in lines
    assert "  in the file and not used: none (and 22 of classifiers, counters and anchors)" in lines
    others = "attention (17 arrays), box_head (8 arrays), fpn (16 arrays), rpn (6 arrays)"
    assert f"  not in such a file, left at initial values: {others}" in lines


def test_a_deep_resnet_finds_its_place():
    arrays = foreign.resnet(50)
    changes = FROZEN | {"backbone.depth": 50}
    variables, report = load(arrays, changes)
    assert "ResNet-50\n" in report
    np.testing.assert_array_equal(
        at(variables, "params/backbone/layer3_5/conv3/kernel")[0, 0], arrays["layer3.5.conv3.weight"][:, :, 0, 0].T
    )


IMAGE = jnp.asarray(np.random.default_rng(0).normal(size=(1, 64, 64, 3)), jnp.float32)


def _features(variables, image, **settings):
    net = ResNet(depth=18, width=8, norm="frozen_bn", frozen_stages=0, **settings)
    own = {collection: variables[collection]["backbone"] for collection in ("params", "batch_stats")}
    return jax.jit(lambda own, image: net.apply(own, image, False))(own, image)


@pytest.mark.parametrize("epsilon", [1e-5, 0.0, 1e-3])
def test_folded_file_computes_the_same(epsilon):
    arrays = foreign.resnet()
    apart, _ = load(arrays, FROZEN)
    changes = FROZEN | {"backbone.norm_eps": epsilon}
    folded, report = load(foreign.fold(arrays), changes)
    assert "not used: none" in report
    for one, other in zip(_features(apart, IMAGE), _features(folded, IMAGE, norm_eps=epsilon), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_weights_for_bgr_see_rgb():
    arrays = foreign.caffe2_backbone(foreign.resnet())
    variables, report = load(arrays, CAFFE)
    assert report.startswith("weights w: Caffe2's ResNet, ResNet-18, BGR turned to RGB\n")
    kernel = at(variables, "params/backbone/conv1/kernel")
    np.testing.assert_array_equal(kernel[:, :, ::-1].transpose(3, 2, 0, 1), arrays["conv1_w"])
    as_it_was = jax.tree.map(lambda leaf: leaf, variables)
    as_it_was["params"]["backbone"]["conv1"]["kernel"] = kernel[:, :, ::-1]
    for ours, theirs in zip(_features(variables, IMAGE), _features(as_it_was, IMAGE[..., ::-1]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("spelled_out", [False, True])
def test_caffe2_names(spelled_out):
    arrays = foreign.caffe2_backbone(foreign.resnet(50), spelled_out)
    arrays |= {"fc1000_w": np.ones((10, 256)), "fc1000_b": np.ones(10), "conv1_b": np.full(8, 1e-9, np.float32)}
    variables, report = load(arrays, CAFFE | {"backbone.depth": 50})
    leaf = "gamma" if spelled_out else "s"
    np.testing.assert_array_equal(
        at(variables, "batch_stats/backbone/layer1_0/shortcut_norm/bn/scale"), arrays[f"res2_0_branch1_bn_{leaf}"]
    )
    np.testing.assert_array_equal(
        at(variables, "params/backbone/layer3_5/conv2/kernel").transpose(3, 2, 0, 1), arrays["res4_5_branch2b_w"]
    )
    assert "not used: none (and 3 of classifiers" in report


def test_caffe2_norms_of_scale_and_bias_alone_compute_just_that():
    arrays = without(foreign.caffe2_backbone(foreign.resnet()), "_rm", "_riv")
    variables, _ = load(arrays, CAFFE)
    norm = {leaf: at(variables, f"batch_stats/backbone/norm1/bn/{leaf}") for leaf in ("scale", "bias", "mean", "var")}
    np.testing.assert_array_equal(norm["scale"], arrays["res_conv1_bn_s"])
    np.testing.assert_array_equal(norm["mean"], 0.0)
    np.testing.assert_allclose(norm["var"] + np.float32(1e-5), 1.0, rtol=1e-7)


def test_half_of_a_norms_statistics_is_no_reason_to_make_up_the_other():
    arrays = without(foreign.caffe2_backbone(foreign.resnet()), "res4_0_branch2a_bn_riv")
    refused(arrays, CAFFE, r"1 without a value \(backbone/layer3_0/norm1/bn/var \(32,\)\)", strict=True)


def test_detectron2s_names_of_a_converted_backbone():
    arrays = foreign.detectron2_backbone(foreign.resnet() | {"fc.weight": np.ones((10, 64), np.float32)})
    variables, report = load(arrays, FROZEN, author="torchvision")
    assert "Detectron2's ResNet, ResNet-18\n" in report
    np.testing.assert_array_equal(
        at(variables, "params/backbone/conv1/kernel").transpose(3, 2, 0, 1), arrays["stem.conv1.weight"]
    )
    np.testing.assert_array_equal(
        at(variables, "batch_stats/backbone/layer2_0/shortcut_norm/bn/mean"),
        arrays["res3.0.shortcut.norm.running_mean"],
    )


def test_part_of_a_network_says_what_stays():
    arrays = without(foreign.fold(foreign.resnet()), "layer4.1.conv2.weight")
    variables, report = load(arrays, FROZEN, strict=False)
    assert "torchvision's ResNet, ResNet-18" in report
    missing = next(line for line in report.splitlines() if line.startswith("  left at initial values: "))
    assert "backbone/layer4_1/conv2/kernel (3, 3, 64, 64)" in missing
    assert "backbone/layer4_1/norm2/bn/mean (64,)" in missing and missing.count("(") == 5
    assert "not used: layer4.1.conv2.bias (64,)\n" in report + "\n"  # a bias is nothing without its convolution
    assert at(variables, "params/backbone/layer4_1/conv2/kernel").min() >= STAYS
    first_stages = {name: value for name, value in foreign.resnet().items() if not re.match("layer[34]", name)}
    variables, report = load(first_stages, FROZEN, strict=False)
    assert "torchvision's ResNet, a part with 4 blocks" in report
    assert at(variables, "params/backbone/layer3_0/conv1/kernel").min() >= STAYS


def test_trained_norm_takes_batch_norm_and_group_norm_takes_none():
    arrays = foreign.resnet()
    variables, _ = load(arrays, {"backbone.norm": "bn"})
    np.testing.assert_array_equal(at(variables, "params/backbone/norm1/bn/scale"), arrays["bn1.weight"])
    np.testing.assert_array_equal(at(variables, "batch_stats/backbone/norm1/bn/mean"), arrays["bn1.running_mean"])
    variables, report = load(arrays, {"backbone.norm": "gn"}, strict=False)
    assert "left at initial values: backbone/" in report
    assert at(variables, "params/backbone/norm1/gn/scale").min() >= STAYS
    assert at(variables, "params/backbone/conv1/kernel").max() < STAYS


CROP = np.random.default_rng(1).normal(size=(7, 7, 16)).astype(np.float32)


def box_head_outputs(arrays, names, crop):
    """Scores and box deltas of torchvision's dense layers for a crop, in numpy; `names` are of the hidden layers."""
    x = crop.transpose(2, 0, 1).reshape(-1)
    for name in names:
        x = np.maximum(arrays[f"{name}.weight"] @ x + arrays[f"{name}.bias"], 0)
    predictor = "roi_heads.box_predictor"
    return tuple(
        arrays[f"{predictor}.{name}.weight"] @ x + arrays[f"{predictor}.{name}.bias"]
        for name in ("cls_score", "bbox_pred")
    )


def our_box_head_outputs(variables, num_fcs, crop):
    x = crop.reshape(-1)
    for name in [f"fc{i}" for i in range(1, num_fcs + 1)]:
        layer = variables["params"]["box_head"][name]
        x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
    layers = [variables["params"]["box_head"][name] for name in ("classes", "deltas")]
    return tuple(x @ layer["kernel"] + layer["bias"] for layer in layers)


@pytest.mark.parametrize("old_names", [False, True])
def test_first_version_of_torchvisions_detector(old_names):
    arrays = foreign.torchvision_detector(1)
    variables, report = load(foreign.with_old_names(arrays) if old_names else arrays, V1)
    pairs = {
        "backbone/layer4_1/conv2/kernel": "backbone.body.layer4.1.conv2.weight",
        "fpn/lateral2/kernel": "backbone.fpn.inner_blocks.0.0.weight",
        "fpn/output5/kernel": "backbone.fpn.layer_blocks.3.0.weight",
        "rpn/conv1/kernel": "rpn.head.conv.0.0.weight",
        "rpn/objectness/kernel": "rpn.head.cls_logits.weight",
        "rpn/deltas/kernel": "rpn.head.bbox_pred.weight",
    }
    for key, name in pairs.items():
        np.testing.assert_array_equal(at(variables, f"params/{key}").transpose(3, 2, 0, 1), arrays[name])
    np.testing.assert_array_equal(at(variables, "params/rpn/deltas/bias"), arrays["rpn.head.bbox_pred.bias"])
    scores, boxes = box_head_outputs(arrays, ("roi_heads.box_head.fc6", "roi_heads.box_head.fc7"), CROP)
    ours, our_boxes = our_box_head_outputs(variables, 2, CROP)
    np.testing.assert_allclose(ours, [*scores[1:], scores[0]], rtol=1e-4)  # the background comes last
    np.testing.assert_allclose(our_boxes, boxes[4:], rtol=1e-4)  # and has no box
    assert "3 of 3 class rows by position: the file has no names" in report
    assert "left at initial values: none" in report and "not used: none" in report
    assert "norm_eps" not in report


def test_second_version_of_torchvisions_detector():
    arrays = foreign.torchvision_detector(2)
    variables, report = load(arrays, V2)
    pairs = {
        "params/fpn/lateral3/kernel": "backbone.fpn.inner_blocks.1.0.weight",
        "params/rpn/conv2/kernel": "rpn.head.conv.1.0.weight",
        "params/box_head/conv4/kernel": "roi_heads.box_head.3.0.weight",
        "params/fpn/output3_norm/bn/scale": "backbone.fpn.layer_blocks.1.1.weight",
        "batch_stats/fpn/lateral5_norm/bn/var": "backbone.fpn.inner_blocks.3.1.running_var",
        "params/box_head/conv1_norm/bn/bias": "roi_heads.box_head.0.1.bias",
        "batch_stats/box_head/conv4_norm/bn/mean": "roi_heads.box_head.3.1.running_mean",
    }
    for key, name in pairs.items():
        found = at(variables, key)
        found = found.transpose(3, 2, 0, 1) if found.ndim == 4 else found
        np.testing.assert_array_equal(found, arrays[name])
    scores, boxes = box_head_outputs(arrays, ("roi_heads.box_head.5",), CROP)
    ours, our_boxes = our_box_head_outputs(variables, 1, CROP)
    np.testing.assert_allclose(ours, [*scores[1:], scores[0]], rtol=1e-4)
    np.testing.assert_allclose(our_boxes, boxes[4:], rtol=1e-4)
    assert "norm_eps" not in report and "not used: none" in report


def test_detectron2s_detector_is_torchvisions_under_other_names():
    arrays = foreign.detectron2_detector() | {"pixel_mean": np.zeros(1), "stem.conv1.bias": np.zeros(8)}
    arrays["proposal_generator.anchor_generator.cell_anchors.0"] = np.zeros((3, 4))
    arrays["backbone.bottom_up.stem.conv1.norm.running_var"] = np.ones(8, np.float32)
    variables, report = load(arrays, V1 | CAFFE)
    twin = foreign.torchvision_detector(1) | {"backbone.body.bn1.running_var": np.ones(8, np.float32)}
    expected, _ = load(twin, V1)
    first = "params/backbone/conv1/kernel"
    np.testing.assert_array_equal(at(variables, first)[:, :, ::-1], at(expected, first))
    variables["params"]["backbone"].pop("conv1"), expected["params"]["backbone"].pop("conv1")
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    assert report.startswith("weights w: Detectron2's Faster R-CNN, ResNet-18, BGR turned to RGB\n")
    assert "not used: none" in report


def test_detectron2s_head_of_two_rpn_convolutions():
    arrays = foreign.detectron2_detector()
    for leaf in ("weight", "bias"):
        one = arrays.pop(f"proposal_generator.rpn_head.conv.{leaf}")
        arrays |= {f"proposal_generator.rpn_head.conv.conv{i}.{leaf}": one + i for i in range(2)}
    variables, _ = load(arrays, V1 | {"rpn.num_convs": 2}, author="torchvision")
    np.testing.assert_array_equal(
        at(variables, "params/rpn/conv2/bias"), arrays["proposal_generator.rpn_head.conv.conv1.bias"]
    )


def test_own_checkpoint_is_taken_whole():
    arrays, about = own(FROZEN)
    variables, report = load(arrays, FROZEN, ABC, **about)
    for key, value in flatten_dict(variables, sep="/").items():
        np.testing.assert_array_equal(value, arrays[key])
    assert "a checkpoint of lga_jax, ResNet-18" in report and "loaded into attention: " in report


def test_attention_is_added_to_and_left_out_of_own_checkpoints():
    arrays, about = own(V1)
    variables, report = load(arrays, FROZEN | COCO_ANCHORS, ABC, **about)
    assert "not in such a file, left at initial values: attention (17 arrays)" in report
    assert at(variables, "params/attention/reduce/kernel").min() >= STAYS
    arrays, about = own(FROZEN | COCO_ANCHORS)
    _, report = load(arrays, V1, ABC, strict=False, **about)
    assert "in the file and not used: params/attention/" in report
    over = r"0 without a value \(none\) and 17 left over \(params/attention/"
    refused(arrays, V1, over, ABC, strict=True, **about)


def test_trained_norm_becomes_a_frozen_one():
    arrays, about = own(V2)
    frozen = V2 | {"backbone.norm": "frozen_bn", "fpn.norm": "frozen_bn"}
    variables, _ = load(arrays, frozen, ABC, **about)
    np.testing.assert_array_equal(
        at(variables, "batch_stats/fpn/lateral2_norm/bn/scale"), arrays["params/fpn/lateral2_norm/bn/scale"]
    )


def test_strict_names_what_is_missing_and_left_over():
    arrays = without(foreign.torchvision_detector(), "fc6.bias", "layer4.1.bn2.running_var")
    arrays["roi_heads.mask_predictor.conv5_mask.weight"] = np.ones((3, 3))
    message = refused(arrays, V1, r"^model.init_strict: w \(torchvision's Faster R-CNN, ResNet-18\): ", strict=True)
    assert "found 2 without a value (" in message
    assert "backbone/layer4_1/norm2/bn/var (64,)" in message and "box_head/fc1/bias (32,)" in message
    assert "1 left over (roi_heads.mask_predictor.conv5_mask.weight (3, 3))" in message
    _, report = load(arrays, V1, strict=False)
    assert "not used: roi_heads.mask_predictor.conv5_mask.weight (3, 3) (and" in report


def test_other_shapes_are_named_as_the_file_has_them():
    arrays = foreign.resnet() | {"layer1.0.conv1.weight": np.zeros((64, 64, 3, 3), np.float32)}
    message = refused(arrays, FROZEN, r"this is torchvision's ResNet, ResNet-18; layer1.0.conv1.weight: expected shape")
    assert "expected shape (8, 8, 3, 3) for the recipe's model, found (64, 64, 3, 3);" in message
    for changes, part in (
        ({"box_head.hidden": 16}, r"cls_score.weight: expected shape \(4, 16\) .* found \(4, 32\)"),
        ({"roi_align.crop_size": 5}, r"box_head.fc6.weight: expected shape \(32, 400\) .* found \(32, 784\)"),
    ):
        refused(foreign.torchvision_detector(), V1 | changes, part)
    arrays = foreign.torchvision_detector()
    arrays["roi_heads.box_predictor.bbox_pred.bias"] = np.zeros(4, np.float32)  # one box for all classes
    refused(arrays, V1, r"bbox_pred.bias: expected shape \(16,\) .* found \(4,\)")


def test_numbers_that_are_none():
    arrays = foreign.resnet()
    arrays["bn1.running_var"][2] = np.nan
    refused(arrays, FROZEN, r"bn1.running_var: expected finite numbers, found 1 ")


def test_initial_variables_are_not_changed():
    start = initial(V1, len(CLASSES))
    before = jax.tree.map(np.copy, start)
    load_pretrained(Weights("w", foreign.torchvision_detector()), start, CLASSES, model(V1).to_dict())
    jax.tree.map(np.testing.assert_array_equal, start, before)


def test_biases_of_nothing_beside_norms_are_ignored():
    """As Detectron's own copy of MSRA's weights has them."""
    arrays = foreign.caffe2_backbone(foreign.resnet(50))
    arrays |= {f"res2_0_branch{branch}_b": np.zeros(8, np.float32) for branch in ("1", "2a", "2b", "2c")}
    _, report = load(arrays, CAFFE | {"backbone.depth": 50})
    assert "not used: none (and 4 of" in report
    arrays["res2_0_branch2a_b"] += 1.0
    refused(arrays, CAFFE | {"backbone.depth": 50}, r"1 left over \(res2_0_branch2a_b \(8,\)\)", strict=True)


def test_nothing_random_stays_in_frozen_stages():
    arrays = without(foreign.resnet(), "layer1.1.conv2.weight", "layer3.1.conv2.weight")
    load(arrays, FROZEN | {"backbone.frozen_stages": 1}, strict=False)
    message = r"parameter of the 2 frozen stages, found none for backbone/layer1_1/conv2/kernel; give --config"
    refused(arrays, FROZEN | {"backbone.frozen_stages": 2}, message)


def test_strictness_says_that_class_rows_are_apart():
    _, report = load(foreign.torchvision_detector(num_classes=7), V1, strict=True)
    assert "is not loaded: 7 classes without names there, 3 here (strictness does not apply to class rows)" in report
    assert "strictness" not in load(foreign.torchvision_detector(), V1, strict=True)[1]
