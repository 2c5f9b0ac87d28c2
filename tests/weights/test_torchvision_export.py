import jax
import numpy as np
import pytest

from lga_jax.errors import UserError
from lga_jax.weights.torchvision_export import to_torchvision, torchvision_version
from tests.weights import foreign
from tests.weights.loading import CLASSES, EXPORTABLE, STAYS, at, export_source, export_variables, load, model


@pytest.mark.parametrize("version", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_came_from_torchvision_goes_back_as_it_was(version):
    """Bit for bit, but for the background's box, which nobody reads, and the batches that were counted."""
    theirs = export_source(version)
    state = to_torchvision(export_variables(version), model(EXPORTABLE[version]).to_dict())
    assert state.keys() == theirs.keys()
    for name, value in state.items():
        assert value.shape == theirs[name].shape and value.flags.c_contiguous
        if name.endswith("num_batches_tracked"):
            assert value.dtype == np.int64 and value == 0
        elif name.startswith("roi_heads.box_predictor.bbox_pred."):
            np.testing.assert_array_equal(value[4:], theirs[name][4:])
            assert not value[:4].any()
        else:
            np.testing.assert_array_equal(value, theirs[name], name)
    again, _ = load(state, EXPORTABLE[version])
    jax.tree.map(np.testing.assert_array_equal, again, export_variables(version))
    assert at(again, "params/box_head/deltas/kernel").max() < STAYS


def test_a_mask_head_goes_back_as_it_was():
    theirs = foreign.torchvision_mask_head(channels=256, hidden=256, num_convs=4)
    changes = EXPORTABLE[1] | {"mask_head.enabled": True, "mask_head.num_convs": 4, "mask_head.channels": 256}
    changes |= {"mask_head.crop_size": 14}
    state = to_torchvision(load(export_source(1) | theirs, changes)[0], model(changes).to_dict())
    assert state.keys() == export_source(1).keys() | theirs.keys()
    for name, value in theirs.items():
        wanted = value.copy()
        if "mask_fcn_logits" in name:
            wanted[0] = 0.0  # the mask of the background, which nobody reads
        np.testing.assert_array_equal(state[name], wanted, name)
    with pytest.raises(UserError, match=r"torchvision's Mask R-CNN \(v1\) cannot .*: model.mask_head.crop_size"):
        torchvision_version(model(changes | {"mask_head.crop_size": 7}).to_dict())


@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
def test_norm_with_another_epsilon_computes_the_same(epsilon):
    """torchvision adds 1e-5; frozen norms behind the backbone do too."""
    config = model(EXPORTABLE[1] | {"backbone.norm_eps": epsilon}).to_dict()
    state = to_torchvision(export_variables(1), config)
    before = export_source(1)
    for norm in ("backbone.body.bn1", "backbone.body.layer4.0.downsample.1"):
        ours = before[f"{norm}.weight"] / np.sqrt(before[f"{norm}.running_var"] + epsilon, dtype=np.float64)
        theirs = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + 1e-5, dtype=np.float64)
        np.testing.assert_allclose(theirs, ours, rtol=2e-7)
        assert (state[f"{norm}.weight"] != before[f"{norm}.weight"]).any()
    np.testing.assert_array_equal(state["backbone.body.conv1.weight"], before["backbone.body.conv1.weight"])


@pytest.mark.parametrize("version", [1, 2])
def test_versions(version):
    assert torchvision_version(model(EXPORTABLE[version]).to_dict()) == version
    frozen = EXPORTABLE[version] | {"backbone.norm": "frozen_bn"}
    assert torchvision_version(model(frozen).to_dict()) == version


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"attention": "lga"}, "model.attention: expected none, found lga"),
        (
            {"pixel_std": (1.0, 1.0, 1.0)},
            r"model.pixel_std: expected \(58.395, 57.12, 57.375\), found \(1.0, 1.0, 1.0\)",
        ),
        ({"box_head.class_agnostic": True}, "model.box_head.class_agnostic: expected False, found True"),
        ({"cascade.positive_ious": (0.6,)}, r"model.cascade.positive_ious: expected \(\), found \(0.6,\)"),
        ({"backbone.norm": "gn"}, "model.backbone.norm: expected bn or frozen_bn, found gn"),
        ({"backbone.stride_in_1x1": True}, "model.backbone.stride_in_1x1: expected False, found True"),
        ({"anchors.rounded": False}, "model.anchors.rounded: expected True, found False"),
        ({"anchors.fixed_stride": True}, "model.anchors.fixed_stride: expected False, found True"),
        ({"anchors.sizes": (8, 16, 32, 64, 128)}, r"model.anchors.sizes: expected \(32, .*, found \(8, .*\)"),
        ({"roi_align.sampling_ratio": 0}, "model.roi_align.sampling_ratio: expected 2, found 0"),
        ({"roi_align.aligned": True}, "model.roi_align.aligned: expected False, found True"),
        ({"fpn.norm": "gn"}, "model.fpn.norm: expected none, found gn"),
        ({"rpn.num_convs": 2}, "model.rpn.num_convs: expected 1, found 2"),
    ],
)
def test_what_torchvision_cannot_compute_is_named(change, found):
    message = rf"^a model that torchvision's Faster R-CNN \(v1\) cannot compute: {found}; train with these values"
    with pytest.raises(UserError, match=message):
        torchvision_version(model(EXPORTABLE[1] | change).to_dict())


def test_all_that_is_in_the_way_is_named_at_once():
    config = model(EXPORTABLE[1] | {"attention": "lga", "roi_align.aligned": True, "rpn.num_convs": 3}).to_dict()
    config["anchors"].pop("rounded")  # a checkpoint from before the key
    with pytest.raises(UserError) as caught:
        torchvision_version(config)
    for key in ("attention", "roi_align.aligned", "rpn.num_convs", "anchors.rounded: expected True, found None"):
        assert f"model.{key}" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"\(v2\) cannot compute: model.backbone.depth: expected 50, found 18;"):
        torchvision_version(model(EXPORTABLE[2] | {"backbone.depth": 18}).to_dict())


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_torchvision_loads_it_strictly_with_and_without_frozen_norms(version):
    torchvision = pytest.importorskip("torchvision", reason="needs torchvision, which loads what was written")
    torch = pytest.importorskip("torch", reason="needs torch")
    arrays = to_torchvision(export_variables(version), model(EXPORTABLE[version]).to_dict())
    state = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    detection = torchvision.models.detection
    if version == 2:
        networks = [detection.fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=4)]
    else:
        norms = (torchvision.ops.FrozenBatchNorm2d, torch.nn.BatchNorm2d)
        backbones = [
            detection.backbone_utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=norm)
            for norm in norms
        ]
        networks = [detection.FasterRCNN(backbone, num_classes=len(CLASSES) + 1) for backbone in backbones]
    for network in networks:
        network.load_state_dict(state, strict=True)
