import re

import numpy as np
import pytest

from lga_jax.errors import UserError
from tests.weights import foreign
from tests.weights.loading import ABC, CAFFE, COMPUTES, FROZEN, V1, V2, at, load, own, refused, without

DEEP = {"backbone.depth": 50}
PIXELS = (("pixel_mean", 127.5), ("pixel_std", 58.0))


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"conv1.0.weight": np.ones((4, 3, 3, 3))}, r"conv1\.0\.weight"),  # timm's resnet50d
        ({"layer2.0.downsample.2.weight": np.ones(16)}, r"layer2\.0\.downsample\.2\.weight"),
        ({"layer1.0.se.fc1.weight": np.ones((4, 8, 1, 1))}, r"layer1\.0\.se\.fc1\.weight"),
        ({"layer1.1.conv2.weight": np.ones((8, 2, 3, 3))}, r"layer1\.1\.conv2\.weight with shape \(8, 2, 3, 3\)"),
    ],
)
def test_variants_of_resnet_are_refused(extra, named):
    refused(foreign.resnet() | extra, FROZEN, rf"^weights w: expected a plain ResNet, found {named}")


def test_group_norm_of_others_is_refused():
    arrays = without(foreign.resnet(), "running_mean", "running_var")
    refused(arrays, FROZEN, "expected batch norm with running statistics, found a norm of backbone without")
    arrays = {name.replace("_bn_", "_gn_"): value for name, value in foreign.caffe2_backbone(foreign.resnet()).items()}
    refused(arrays, CAFFE, r"expected a plain ResNet, found res\w*_gn_s and \d+ more, .*group norm")


def test_another_depth_is_named():
    message = refused(foreign.resnet(101), FROZEN | {"backbone.depth": 50}, "^weights w: this is torchvision's ResNet")
    assert "ResNet-101; model.backbone.depth: expected 101, found 50; give --config.model.backbone.depth=101" in message
    refused(foreign.resnet(34), FROZEN, "depth: expected 34, found 18")
    refused(foreign.resnet(18), FROZEN | {"backbone.depth": 34}, "depth: expected 18, found 34")
    deeper = {
        name.replace("layer3.1.", f"layer3.{number}."): value
        for number in range(1, 30)
        for name, value in foreign.resnet().items()
    }
    message = refused(deeper, FROZEN, r"expected a ResNet of 18, 34, 50, 101, 152 layers")
    assert "found one with (2, 2, 30, 2) basic blocks" in message and "--config" not in message


def test_the_pixels_that_weights_were_trained_on_are_the_configs():
    caffe, torchvision = foreign.caffe2_backbone(foreign.resnet(50)), foreign.resnet(50)
    deep = FROZEN | {"backbone.depth": 50}
    message = refused(caffe, deep, "this is Caffe2's ResNet, ResNet-50; ")
    assert "model.pixel_std: expected (1.0, 1.0, 1.0), found (58.395, 57.12, 57.375); " in message
    assert "model.backbone.stride_in_1x1: expected True, found False; give --config.model.pixel_std='(1.0" in message
    assert "pixel_mean" not in message
    message = refused(torchvision, CAFFE | {"backbone.depth": 50}, "this is torchvision's ResNet, ResNet-50; ")
    assert "model.backbone.stride_in_1x1: expected False, found True" in message
    message = refused(torchvision, deep | {"pixel_mean": (127.5, 127.5, 127.5)}, r"pixel_mean: expected \(123.675, ")
    assert "pixel_std" not in message
    # Detectron's mean, and a basic block, which has no 1x1 to stride in.
    load(caffe, CAFFE | {"backbone.depth": 50, "pixel_mean": (122.7717, 115.9465, 102.9801)})
    load(foreign.resnet(), FROZEN | {"backbone.stride_in_1x1": True})


def test_where_a_detectron2_file_comes_from():
    """By its pixel_std, its author, or the size of its first statistics for the first kernels."""
    arrays = foreign.detectron2_backbone(foreign.resnet())
    kernel = arrays["stem.conv1.weight"]
    power = np.square(kernel).sum((1, 2, 3))
    ordinary = arrays | {"stem.conv1.norm.running_var": power * 0.4}
    whole_pixels = arrays | {"stem.conv1.norm.running_var": power * 0.4 * 58**2}
    folded = arrays | {"stem.conv1.norm.running_var": np.ones(8, np.float32)}
    early = without(arrays, "running_mean", "running_var")

    def first_kernel(arrays, changes, **about):
        return at(load(arrays, changes, **about)[0], "params/backbone/conv1/kernel").transpose(3, 2, 0, 1)

    def pixels(mean, std):
        return {"pixel_mean": np.reshape(mean, (3, 1, 1)), "pixel_std": np.reshape(std, (3, 1, 1))}

    bgr = pixels((103.53, 116.28, 123.675), (1.0, 1.0, 1.0))
    rgb = pixels((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    for file in (whole_pixels, folded, early, ordinary | bgr):
        np.testing.assert_array_equal(first_kernel(file, CAFFE)[:, ::-1], kernel)
        refused(file, FROZEN, r"pixel_std: expected \(1.0, 1.0, 1.0\), found \(58")
    for file in (ordinary, whole_pixels | rgb):
        np.testing.assert_array_equal(first_kernel(file, FROZEN), kernel)
        refused(file, CAFFE, r"pixel_std: expected \(58.395, 57.12, 57.375\), found \(1")
    np.testing.assert_array_equal(first_kernel(whole_pixels, FROZEN, author="torchvision"), kernel)
    divided = ordinary | pixels((103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
    np.testing.assert_array_equal(first_kernel(divided, FROZEN)[:, ::-1], kernel)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"fpn.norm": "bn"}, "fpn.norm: expected none, found bn"),
        ({"rpn.num_convs": 2}, "rpn.num_convs: expected 1, found 2"),
        ({"box_head.num_convs": 4, "box_head.norm": "bn"}, "box_head.num_convs: expected 0, found 4"),
        ({"box_head.num_fcs": 1}, "box_head.num_fcs: expected 2, found 1"),
        ({"backbone.depth": 34}, "backbone.depth: expected 18, found 34"),
    ],
)
def test_another_architecture_of_the_detector_is_named(changes, key):
    for arrays in (foreign.torchvision_detector(), foreign.with_old_names(foreign.torchvision_detector())):
        refused(arrays, V1 | changes, f"this is torchvision's Faster R-CNN, ResNet-18; .*model.{key}")
    caffe = V1 | CAFFE | changes
    refused(foreign.detectron2_detector(), caffe, f"this is Detectron2's Faster R-CNN, ResNet-18; .*model.{key}")


def test_second_version_in_a_config_of_the_first():
    message = refused(foreign.torchvision_detector(2), V1, "this is torchvision's Faster R-CNN, ResNet-18; ")
    for part in (
        "model.fpn.norm: expected bn, found none",
        "model.rpn.num_convs: expected 2, found 1",
        "model.box_head.num_convs: expected 4, found 0",
        "model.box_head.num_fcs: expected 1, found 2",
        "model.box_head.norm: expected bn, found none",
    ):
        assert part in message


def test_detectron2s_group_norm_in_the_fpn_is_refused():
    arrays = foreign.detectron2_detector()
    for level in range(2, 6):
        for conv in ("lateral", "output"):
            arrays[f"backbone.fpn_{conv}{level}.norm.weight"] = np.ones(16, np.float32)
    refused(arrays, V1, "found a norm of fpn without", author="torchvision")


def test_what_shapes_do_not_tell_must_be_as_it_was():
    arrays, about = own(FROZEN)
    for key, value in (("pixel_std", (1.0, 1.0, 1.0)), ("backbone.norm_eps", 0.0)):
        refused(arrays, FROZEN | {key: value}, f"model.{key}: expected .*, found", ABC, **about)
    about["model"] = {"pixel_mean": [123.675, 116.28, 103.53], "backbone": {}}  # of an older version: lists, and less
    load(arrays, FROZEN | {"backbone.norm_eps": 0.0}, ABC, **about)
    group, about = own({"backbone.norm": "gn"})
    refused(group, FROZEN, r"model.backbone.norm: expected gn, found frozen_bn", ABC, **about)


def test_grouped_convolutions_of_caffe2_are_refused():
    arrays = foreign.caffe2_backbone(foreign.resnet(50))
    arrays["res2_0_branch2b_w"] = np.ones((8, 2, 3, 3), np.float32)
    refused(arrays, CAFFE | DEEP, "found res2_0_branch2b_w with shape .*, a grouped convolution of ResNeXt")


@pytest.mark.parametrize("configured", ["bn", "gn"])
def test_norms_without_statistics_are_not_normalised_by_those_of_a_batch(configured):
    affine = without(foreign.caffe2_backbone(foreign.resnet(50)), "_rm", "_riv")
    for arrays, changes in ((foreign.fold(foreign.resnet()), {}), (affine, CAFFE | DEEP)):
        expected = f"backbone.norm: expected frozen_bn, found {configured}; give --config.model.backbone.norm=frozen_bn"
        refused(arrays, changes | {"backbone.norm": configured}, expected)


def test_other_networks_are_no_parts():
    """A bottleneck network of fewer blocks has the names and shapes of the configured one's first blocks."""
    small = {
        name: value for name, value in foreign.resnet(50).items() if not re.match(r"layer\d\.(?:[2-9]|1\d)\.", name)
    }
    refused(small, FROZEN | DEEP, r"found one with \(2, 2, 2, 2\) bottleneck blocks")
    beginning = {name: value for name, value in foreign.resnet(50).items() if not re.match(r"layer[34]", name)}
    _, report = load(beginning, FROZEN | DEEP, strict=False)
    assert "a part with 7 blocks" in report


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anchors.sizes": (16, 32, 64, 128, 256)}, r"anchors.sizes: expected \(32, 64, .*, found \(16, 32"),
        ({"anchors.aspect_ratios": (2.0, 1.0, 0.5)}, r"anchors.aspect_ratios: expected \(0.5, 1.0, 2.0\), found \(2.0"),
    ],
)
def test_anchors_mean_what_they_did(changes, message):
    hint = rf"{message}.* \(configs/coco_torchvision_v1.py has them; "
    refused(foreign.torchvision_detector(), V1 | changes, hint)
    refused(foreign.detectron2_detector(), V1 | CAFFE | changes, message)
    arrays, about = own(FROZEN)
    refused(arrays, FROZEN | changes, "model.anchors.", ABC, **about)
    stated = {"anchors": {key.split(".")[1]: list(value) for key, value in changes.items()}}
    load(foreign.torchvision_detector(), V1 | changes, model=stated)  # trained otherwise, and saying so
    load(foreign.resnet(), FROZEN | changes)  # which has none


def test_rois_may_be_sampled_otherwise_in_training_but_not_in_an_import():
    arrays = foreign.torchvision_detector()
    others = {"anchors.rounded": False, "anchors.fixed_stride": True, "roi_align.aligned": True}
    others["roi_align.sampling_ratio"] = 0
    _, report = load(arrays, V1 | others)
    for key, value in others.items():
        assert f"  model.{key} is {value}, these weights were trained with " in report
    with pytest.raises(UserError) as caught:
        load(arrays, V1 | others, exact=True)
    assert all(f"model.{key}: expected " in str(caught.value) for key in others)
    assert "give --config.model.anchors.rounded=True " in str(caught.value) and "\n" not in str(caught.value)
    _, report = load(arrays, V1 | COMPUTES, exact=True)
    assert "these weights were trained" not in report


def test_a_fixed_number_of_points_stands_for_all_of_detectron2s():
    arrays = foreign.detectron2_detector()
    _, report = load(arrays, V1, exact=True, author="torchvision")
    assert "model.roi_align.sampling_ratio is 2, these weights were trained with 0" in report
    with pytest.raises(UserError, match=r"aligned: expected True, found False; .*configs/coco_detectron2_1x.py"):
        load(arrays, V1 | {"roi_align.aligned": False}, exact=True, author="torchvision")


def test_epsilon_of_torchvisions_first_version():
    """Its published weights have none; what others trained, and copies under other names, are given the usual one."""
    arrays, exact = foreign.torchvision_detector(), V1 | COMPUTES
    published = dict(where="fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", exact=True)
    with pytest.raises(
        UserError, match=r"norm_eps: expected 0.0, found 1e-05; give --config.model.backbone.norm_eps=0"
    ):
        load(arrays, exact, **published)
    _, report = load(arrays, exact | {"backbone.norm_eps": 0.0}, **published)
    assert "norm_eps" not in report
    _, report = load(arrays, exact | {"backbone.norm_eps": 0.0}, exact=True)
    assert "  model.backbone.norm_eps is 0.0, these weights were trained with 1e-05" in report
    second = V2 | COMPUTES | {"backbone.norm_eps": 0.0}
    with pytest.raises(UserError, match=r"norm_eps: expected 1e-05, found 0.0; .*configs/coco_torchvision_v2.py"):
        load(foreign.torchvision_detector(2), second, exact=True)


def test_means_that_tell_no_order_are_taken_for_bgr():
    arrays = foreign.detectron2_detector() | {name: np.full(3, value) for name, value in PIXELS}
    changes = V1 | {"pixel_mean": (127.5,) * 3, "pixel_std": (58.0,) * 3}
    _, report = load(arrays, changes)
    assert "BGR turned to RGB" in report and "its pixel_mean does not show the order of channels" in report


@pytest.mark.parametrize("stated", ["abc", [1.0, 2.0], {"a": 1}, 3.0, ["a", "b", "c"]])
def test_metadata_that_is_none(stated):
    message = "^weights w: its metadata's model.pixel_mean: expected 3 numbers, found "
    refused(foreign.torchvision_detector(), V1, message, model={"pixel_mean": stated})


def test_arrays_without_axes():
    arrays = foreign.torchvision_detector()
    arrays["roi_heads.box_predictor.cls_score.bias"] = np.array(1.0, np.float32)
    refused(arrays, V1, r"cls_score.bias: expected .*, found shape \(\)")
    arrays = foreign.detectron2_backbone(foreign.resnet())
    arrays["stem.conv1.weight"] = np.array(1.0, np.float32)
    refused(arrays, FROZEN, r"found stem.conv1.weight with shape \(\)")


def test_group_norm_beside_batch_norm_is_told():
    _, report = load(foreign.resnet(), {"backbone.norm": "gn"}, strict=False)
    assert "  model.backbone.norm is gn: of the backbone the convolutions alone are loaded; --config.model" in report
