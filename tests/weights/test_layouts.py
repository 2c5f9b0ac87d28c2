import numpy as np
import pytest

from tests.weights import foreign
from tests.weights.loading import FROZEN, V1, at, load, refused


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
    assert "this is" not in report and "Detectron2's Cascade R-CNN, ResNet-18" in report
    assert "left at initial values: stages_1/attention/" in report and "into stages_2: 8 arrays" in report
    assert "in the file and not used: none (and 21 of classifiers" in report  # with the mask head
    crops = arrays["roi_heads.box_head.2.fc1.weight"].reshape(32, 16, 7, 7).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(at(variables, "params/stages_2/box_head/fc1/kernel"), crops.reshape(-1, 32))
    boxes = arrays["roi_heads.box_predictor.1.bbox_pred.weight"]
    np.testing.assert_array_equal(at(variables, "params/stages_1/box_head/deltas/kernel"), boxes.T)
    plain = CASCADE | {"box_head.class_agnostic": False}
    refused(arrays, plain, "bbox_pred.* expected shape")


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
    for name in ("resnetv2_50", "vit_tiny_patch16_224"):
        refused(state(name), FROZEN, "expected the names of torchvision")


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_every_name_of_torchvisions_resnets(depth):
    torchvision = pytest.importorskip("torchvision", reason="needs the library whose names are read")
    network = torchvision.models.get_model(f"resnet{depth}", weights=None)
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    _, report = load(state, FROZEN | {"backbone.width": 64, "backbone.depth": depth})
    assert f"ResNet-{depth}" in report and "left at initial values: none" in report and "used: none" in report
