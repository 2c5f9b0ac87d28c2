"""Every part of the network alone: the same weights, the same input."""

import numpy as np
import pytest

from tests.parity.detectors import COCO_IDS, padded, pair, photos, pixels
from tests.parity.reference import array, both, channels_first, channels_last, torch

NETWORKS = [(1, 18), (1, 50), (2, 18), (2, 50)]


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def features(rng, channels, image_hw=(160, 224), levels=4):
    """Values like those of C2..C5 or P2..P6."""
    sides = [tuple(-(-side // 2 ** (level + 2)) for side in image_hw) for level in range(levels)]
    return [np.abs(rng.normal(size=(2, *hw, c))).astype(np.float32) for hw, c in zip(sides, channels, strict=True)]


def test_normalisation(record):
    """Images of two sizes in one batch; the padding is zero."""
    images = photos([(120, 150), (97, 200)])
    theirs, _ = pair(1, 18).theirs.transform([pixels(image) for image in images])
    batch, image_hw = padded(images)
    record.near(
        "input", "normalised and padded", pair(1, 18).ours.normalise(batch, image_hw), channels_last(theirs.tensors)
    )


@pytest.mark.parametrize(("version", "depth"), NETWORKS)
def test_backbone(record, rng, version, depth):
    network = pair(version, depth)
    images, theirs_images = both(rng.normal(size=(2, 96, 128, 3)).astype(np.float32))
    theirs = network.theirs.backbone.body(theirs_images.permute(0, 3, 1, 2))
    norm = "frozen" if version == 1 else "trained"
    ours = network.part(network.ours.backbone, "backbone", images, False)
    for stage, level in enumerate(theirs.values()):
        record.near("backbone", f"ResNet-{depth}, {norm} batch norm, C2 to C5", ours[stage], channels_last(level))


@pytest.mark.parametrize("version", [1, 2])
def test_fpn(record, rng, version):
    network = pair(version, 18)
    inputs = features(rng, (64, 128, 256, 512))
    theirs = network.theirs.backbone.fpn({str(i): channels_first(level) for i, level in enumerate(inputs)})
    what = "without norm" if version == 1 else "with batch norm"
    pyramid = network.part(network.ours.fpn, "fpn", inputs, False)
    for ours, level in zip(pyramid, theirs.values(), strict=True):
        record.near("FPN", f"{what}, P2 to P6", ours, channels_last(level))


@pytest.mark.parametrize("version", [1, 2])
def test_rpn_head(record, rng, version):
    network = pair(version, 18)
    pyramid = features(rng, (256,) * 5, levels=5)
    logits, deltas = network.theirs.rpn.head([channels_first(level) for level in pyramid])
    ours = network.part(network.ours.rpn, "rpn", pyramid, method="predict")
    what = f"{version} convolution{'s' * (version - 1)}"
    for level, (one, other) in enumerate(zip(logits, deltas, strict=True)):
        record.near("RPN head", f"{what}, objectness", ours[0][level], channels_last(one).reshape(2, -1))
        record.near("RPN head", f"{what}, deltas", ours[1][level], channels_last(other).reshape(2, -1, 4))


@pytest.mark.parametrize("version", [1, 2])
def test_box_head(record, rng, version):
    network = pair(version, 18)
    crops = np.abs(rng.normal(size=(2, 50, 7, 7, 256))).astype(np.float32)
    heads = network.theirs.roi_heads
    logits, deltas = heads.box_predictor(heads.box_head(channels_first(crops.reshape(-1, 7, 7, 256))))
    ours = network.part(network.ours.stages[0].box_head, "box_head", crops, False)
    what = "two dense layers" if version == 1 else "four convolutions and a dense layer"
    logits = array(logits)[:, [*COCO_IDS, 0]]  # ours has background last
    record.near("box head", f"{what}, classes", ours[0].reshape(logits.shape), logits)
    deltas = array(deltas).reshape(100, -1, 4)[:, COCO_IDS]
    record.near("box head", f"{what}, deltas", ours[1].reshape(deltas.shape), deltas)
