"""The whole detector: the same photos in, the same detections out."""

import jax
import numpy as np
import pytest

from lga_jax.models.postprocess import detect
from tests.parity.detectors import COCO_IDS, padded, pair, photos, pixels
from tests.parity.reference import array, torch

NUM_IMAGES, BATCH = 40, 4
MAX_DETECTIONS = 300
PIXELS, SCORE = 0.1, 1e-4  # within which two detections are the same


def mixed_sizes():
    """Sizes of images; every batch has one as high and one as wide as it gets, so it is padded to 288 x 288.

    P6 of such a batch is rounded up from 4.5 cells: torchvision's cells are 57 pixels apart there.
    """
    rng = np.random.default_rng(0)
    sizes = rng.integers(190, 289, (NUM_IMAGES, 2))
    sizes[0::BATCH, 0] = sizes[1::BATCH, 1] = 288
    return [tuple(map(int, hw)) for hw in sizes]


@pytest.fixture(scope="module")
def images():
    return photos(mixed_sizes())


def run(network, images):
    """Detections of every image by us and by torchvision: boxes, scores, COCO ids."""
    ours, theirs = [], []
    network.theirs.eval()
    rule = network.config.inference.to_dict() | {"max_detections": MAX_DETECTIONS}

    @jax.jit
    def predict(variables, batch, image_hw):
        return detect(network.ours.apply(variables, batch, image_hw), image_hw, **rule)

    for first in range(0, len(images), BATCH):
        batch = images[first : first + BATCH]
        with torch.no_grad():
            found = network.theirs([pixels(image) for image in batch])
        theirs += [[array(answer[key]) for key in ("boxes", "scores", "labels")] for answer in found]
        found = jax.device_get(predict(network.variables, *padded(batch)))
        for i in range(len(batch)):
            valid = found.valid[i]
            ours.append((found.boxes[i][valid], found.scores[i][valid], COCO_IDS[found.labels[i][valid]]))
    return ours, theirs


def pair_up(ours, theirs):
    """For every detection of theirs, best first, the place of the same one in ours, or -1. None is used twice."""
    free = np.ones(len(ours[0]), bool)
    places = []
    for box, score, label in zip(*theirs, strict=True):
        same = (
            free & (ours[2] == label) & (np.abs(ours[0] - box).max(axis=1) < PIXELS) & (np.abs(ours[1] - score) < SCORE)
        )
        places.append(int(np.argmax(same)) if same.any() else -1)
        free[places[-1]] &= places[-1] < 0
    return np.array(places)


@pytest.mark.parametrize("version", [1, 2])
def test_detections(record, images, version):
    network = pair(version, 50)
    # More detections in an image than by default, so that they reach down to the score threshold.
    network.theirs.roi_heads.detections_per_img = MAX_DETECTIONS
    if version == 2:  # whose head is slow on a CPU
        network.theirs.rpn._post_nms_top_n["testing"] = 100
        rpn = network.ours.rpn
        rpn = rpn.clone(proposals=dict(rpn.proposals) | {"post_nms_test": 100})
        network = network._replace(ours=network.ours.clone(rpn=rpn))
    part = f"detector, version {version}"
    both = list(zip(*run(network, images), strict=True))
    for ours, theirs in both:  # so that detections with the same scores are in the same order, up to ties
        for scores in (ours[1], theirs[1]):
            assert (np.diff(scores) <= 0).all()
    places = [pair_up(*answers) for answers in both]
    found = [(place >= 0) for place in places]
    num_ours, num_theirs = (sum(len(answers[side][0]) for answers in both) for side in (0, 1))
    num_same = sum(part.sum() for part in found)
    assert num_theirs > 50 * len(images)
    record(
        part, "detections of torchvision that we do not have", 100 * (1 - num_same / num_theirs), 1.0, num_theirs, "%"
    )
    record(
        part, "detections of ours that torchvision does not have", 100 * (1 - num_same / num_ours), 1.0, num_ours, "%"
    )
    for (ours, theirs), place, same in zip(both, places, found, strict=True):
        ours = [part[place[same]] for part in ours]
        theirs = [part[same] for part in theirs]
        record(part, "boxes of the same detections", np.abs(ours[0] - theirs[0]).max(), PIXELS, same.sum(), "px")
        record(part, "scores of the same detections", np.abs(ours[1] - theirs[1]).max(), SCORE, same.sum())
