"""A detector of ours written for torchvision: the same photos in, the same detections out."""

import numpy as np

from lga_jax.weights.torchvision_export import to_torchvision
from tests.parity.detectors import COCO_IDS, pair, photos, pixels
from tests.parity.reference import tensor, torch, torchvision
from tests.parity.test_detector import pair_up, run

_models = torchvision.models.detection


def exported(network):
    """torchvision's first version with our parameters."""
    backbone = _models.backbone_utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    theirs = _models.FasterRCNN(backbone, num_classes=len(COCO_IDS) + 1).eval()
    state = to_torchvision(network.variables, network.config.model.to_dict())
    theirs.load_state_dict({name: tensor(value) for name, value in state.items()}, strict=True)
    theirs.transform.resize = network.theirs.transform.resize
    return theirs


def test_exported_detector(record):
    network = pair(1, 18)
    images = photos([(256, 320), (320, 256)])
    # One by one: a batch is padded, and torchvision's anchors depend on that.
    ours = [run(network, [image])[0][0] for image in images]
    theirs = exported(network)
    with torch.no_grad():
        found = [theirs([pixels(image)])[0] for image in images]
    for mine, answer in zip(ours, found, strict=True):
        boxes, scores, labels = (answer[key].numpy() for key in ("boxes", "scores", "labels"))
        assert len(scores) == 100
        best = [part[: len(scores)] for part in mine]  # `run` keeps more than torchvision's default
        places = pair_up(best, (boxes, scores, COCO_IDS[labels - 1]))
        error = 100 * np.mean(places < 0)
        record("exported detector", "detections of torchvision that we do not have", error, 2.0, len(places), "%")
