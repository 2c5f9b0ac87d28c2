import numpy as np
import pytest

from lga_jax.errors import UserError
from tests.weights import foreign
from tests.weights.loading import CLASSES, COMPUTES, FROZEN, STAYS, V1, V2, at, load, refused


@pytest.mark.parametrize(
    ("names", "nearest"),
    [
        (("backbone.layer1.0.conv1.weight", "neck.lateral_convs.0.conv.weight"), r"like MMDetection, .* 'backbone\.'"),
        (
            ("cls_token", "blocks.0.attn.qkv.weight"),
            "a vision transformer, nearest known layout by names: none",
        ),
        (("model.0.conv.weight", "model.22.cv2.0.0.conv.weight"), "this looks like a YOLO"),
        (("encoder_q.layer1.0.conv1.weight",), r"torchvision's ResNet under the prefix 'encoder_q\.'"),
        (("backbone.res2.0.conv1.weight",), "Detectron2's ResNet under the prefix"),
        (("transformer.encoder.layers.0.linear1.weight",), "this looks like a DETR"),
        (("stem", "w"), "found stem, w; nearest known layout by names: none; convert"),
    ],
)
def test_files_of_other_networks(names, nearest):
    arrays = {name: np.ones((8, 8, 1, 1), np.float32) for name in names}
    refused(arrays, FROZEN, rf"^weights w: expected the names of torchvision, .* .*{nearest}")


def test_other_detectors_are_refused():
    arrays = {name: value for name, value in foreign.torchvision_detector().items() if "roi_heads" not in name}
    refused(arrays, V1, r"nearest known layout by names, found another detector, without roi_heads.box_predictor")
    keypoints = {name: value for name, value in foreign.detectron2_detector().items() if "cls_score" not in name}
    refused(keypoints, V1, "expected Detectron2's Faster R-CNN with FPN, .* found another detector")


CASCADE = V1 | {
    "box_head.class_agnostic": True,
    "cascade.attentions": ("lga", "none"),
    "cascade.positive_ious": (0.6, 0.7),
    "cascade.coder_scales": (2.0, 3.0),
    "cascade.loss_weights": (1.0, 1.0),
}


def test_a_cascade_of_detectron2():
    arrays = foreign.detectron2_cascade(num_stages=3)
    variables, report = load(arrays, CASCADE, strict=False)
    assert "this is" not in report and "Detectron2's Cascade Mask R-CNN, ResNet-18" in report
    assert "left at initial values: stages_1/attention/" in report and "into stages_2: 8 arrays" in report
    assert "in the file and not used: none (and 21 of classifiers" in report  # with the mask head
    crops = arrays["roi_heads.box_head.2.fc1.weight"].reshape(32, 16, 7, 7).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(at(variables, "params/stages_2/box_head/fc1/kernel"), crops.reshape(-1, 32))
    boxes = arrays["roi_heads.box_predictor.1.bbox_pred.weight"]
    np.testing.assert_array_equal(at(variables, "params/stages_1/box_head/deltas/kernel"), boxes.T)
    plain = CASCADE | {"box_head.class_agnostic": False}
    refused(arrays, plain, "bbox_pred.* expected shape")


@pytest.mark.parametrize("whose", ["torchvision", "torchvision before 0.13", "torchvision, second", "Detectron2"])
def test_mask_heads(whose):
    changes = (V2 if whose.endswith("second") else V1) | {"mask_head.enabled": True}
    if whose == "Detectron2":
        arrays = foreign.detectron2_detector() | foreign.detectron2_mask_head()
        deconv, masks = (arrays[f"roi_heads.mask_head.{name}.weight"] for name in ("deconv", "predictor"))
    else:
        version = 2 if whose.endswith("second") else 1
        changes |= {"mask_head.norm": "bn"} if version == 2 else {}
        arrays = foreign.torchvision_detector(version) | foreign.torchvision_mask_head(version)
        deconv, masks = (
            arrays[f"roi_heads.mask_predictor.{name}.weight"] for name in ("conv5_mask", "mask_fcn_logits")
        )
        masks = masks[1:]  # without that of the background
        arrays = foreign.with_old_names(arrays) if "before" in whose else arrays
    variables, report = load(arrays, changes, author="torchvision")
    assert "Mask R-CNN, ResNet-18" in report and "loaded into mask_head: " in report
    np.testing.assert_array_equal(at(variables, "params/mask_head/deconv/kernel"), deconv.transpose(2, 3, 0, 1))
    np.testing.assert_array_equal(at(variables, "params/mask_head/classes/kernel")[0, 0], masks[..., 0, 0].T)
    assert np.abs(at(variables, "params/mask_head/conv1/kernel")).max() < STAYS

    _, report = load(arrays, changes, ("bus", "new"), class_names=CLASSES, strict=False, author="torchvision")
    assert "1 of 2 class rows by name" in report
    boxes_only = {key: value for key, value in changes.items() if not key.startswith("mask_head")}
    _, report = load(arrays, boxes_only, author="torchvision")
    assert "mask_head" not in report and "in the file and not used: none" in report


def test_a_detector_without_masks_leaves_the_mask_head_at_its_initial_values():
    _, report = load(foreign.torchvision_detector(), V1 | {"mask_head.enabled": True}, strict=False)
    assert "not in such a file, left at initial values: mask_head (6 arrays)" in report


def test_what_a_mask_head_computes_is_compared():
    arrays = foreign.torchvision_detector() | foreign.torchvision_mask_head(num_convs=2)
    message = refused(arrays, V1 | {"mask_head.enabled": True}, "model.mask_head.num_convs: expected 2, found 1")
    assert "crop_size" not in message  # a recipe may have another one
    with pytest.raises(UserError, match="model.mask_head.crop_size: expected 14, found 4"):
        load(arrays, V1 | COMPUTES | {"mask_head.enabled": True, "mask_head.num_convs": 2}, exact=True)


def test_flax_files_of_other_models_are_no_checkpoints():
    refused({"params/encoder/conv/kernel": np.ones((3, 3, 3, 8), np.float32)}, FROZEN, "expected the names of torch")


@pytest.mark.slow
def test_timms_names_are_torchvisions():
    timm = pytest.importorskip("timm", reason="needs the library whose names are read")

    def state(name):
        return {key: value.numpy() for key, value in timm.create_model(name).state_dict().items()}

    deep = FROZEN | {"backbone.width": 64, "backbone.depth": 50}
    _, report = load(state("resnet50"), deep)
    assert "left at initial values: none" in report
    for name in ("resnet50d", "resnet50c", "seresnet50", "resnext50_32x4d"):
        refused(state(name), deep, "expected a plain ResNet")
    refused(state("resnet50_gn"), deep, "expected batch norm")
    refused(state("resnetv2_50"), FROZEN, "expected the names of torchvision")
    for name in ("vit_tiny_patch16_224", "swinv2_tiny_window8_256", "convnext_tiny"):
        refused(state(name), FROZEN, "expected a backbone of the recipe's family, resnet")


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_every_name_of_torchvisions_resnets(depth):
    torchvision = pytest.importorskip("torchvision", reason="needs the library whose names are read")
    network = torchvision.models.get_model(f"resnet{depth}", weights=None)
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    _, report = load(state, FROZEN | {"backbone.width": 64, "backbone.depth": depth})
    assert f"ResNet-{depth}" in report and "left at initial values: none" in report and "used: none" in report
