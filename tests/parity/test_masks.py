"""Mask R-CNN: its head, loss, targets, training step and detections, on the same weights and RoIs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from lga_jax.inference.step import detect_in
from lga_jax.models.roi.mask_head import mask_loss
from lga_jax.ops.mask_targets import mask_targets
from lga_jax.structs import MaskOutputs
from tests.parity.detectors import COCO_IDS, padded, pair, photos, pixels
from tests.parity.reference import array, both, channels_first, tensor, torch, torchvision
from tests.parity.test_detector import BATCH, mixed_sizes, pair_up
from tests.parity.test_network import features
from tests.parity.test_pasting import iou, ours_in_image, theirs_in_image, whole_pixels
from tests.parity.training import LOSSES, examples, our_answer, record_gradients, round_off_relu, small, their_losses

roi_heads = torchvision.models.detection.roi_heads
IMAGE_HW = (160, 224)
MAX_DETECTIONS = 15  # of an image: the mask head is slow on a CPU


def random_boxes(rng, count):
    sides = rng.uniform(8, 120, (count, 2))
    corners = rng.uniform(0, 1, (count, 2)) * (np.array(IMAGE_HW[::-1]) - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


@pytest.mark.parametrize("version", [1, 2])
def test_mask_head(record, rng, version):
    network = pair(version, 18, masks=True)
    pyramid = features(rng, (256,) * 4)
    boxes = np.stack([random_boxes(rng, 20), random_boxes(rng, 20)])
    labels = rng.integers(0, len(COCO_IDS), (2, 20))
    heads = network.theirs.roi_heads.eval()
    named = {str(level): channels_first(maps) for level, maps in enumerate(pyramid)}
    with torch.no_grad():
        crops = heads.mask_roi_pool(named, [tensor(part) for part in boxes], [IMAGE_HW] * 2)
        theirs = array(heads.mask_predictor(heads.mask_head(crops)))
    heads.mask_roi_pool.scales = None
    variables = {kind: tree["mask_head"] for kind, tree in network.variables.items() if "mask_head" in tree}
    inputs = [jnp.asarray(level) for level in pyramid], jnp.asarray(boxes), jnp.asarray(labels)
    ours = jax.jit(lambda v: network.ours.mask_head.apply(v, *inputs, False))(variables)
    theirs = theirs[np.arange(40), COCO_IDS[labels.reshape(-1)]].reshape(2, 20, 28, 28)
    what = "four convolutions" if version == 1 else "four convolutions with batch norm"
    record.near("mask head", f"{what}, deconvolution, logits of the class", ours, theirs)


def test_mask_loss(record, rng):
    """The loss and its gradient in the logits; all RoIs are of one image."""
    logits, their_logits = both(rng.normal(0, 2, (12, 28, 28)).astype(np.float32))
    targets = rng.random((12, 28, 28)).astype(np.float32)
    valid = jnp.arange(12) < 9
    their_logits.requires_grad_()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(their_logits[:9], tensor(targets[:9]))
    loss.backward()
    ours, gradient = jax.value_and_grad(lambda x: mask_loss(MaskOutputs(x[None], targets[None], valid[None])))(logits)
    record.near("mask loss", "of the valid RoIs", ours, loss.item())
    record.near("mask loss", "gradient in the logits", gradient, array(their_logits.grad))


def bitmaps_and_cells(truth, num_cells=112, finer=8):
    """An ellipse in each box: as pixels, and as the covered share of each cell of its box."""

    def inside(y, x, box):
        (x1, y1, x2, y2) = box
        return ((x - (x1 + x2) / 2) / (x2 - x1)) ** 2 + ((y - (y1 + y2) / 2) / (y2 - y1)) ** 2 <= 0.25

    y, x = np.mgrid[: IMAGE_HW[0], : IMAGE_HW[1]] + 0.5
    bitmaps = np.stack([inside(y, x, box) for box in truth])
    shares = (np.arange(num_cells * finer) + 0.5) / (num_cells * finer)
    cells = []
    for box in truth:
        points_x, points_y = (box[a] + (box[a + 2] - box[a]) * shares for a in (0, 1))
        covered = inside(points_y[:, None], points_x[None], box).reshape(num_cells, finer, num_cells, finer)
        cells.append(covered.mean(axis=(1, 3)))
    return bitmaps, np.round(np.stack(cells) * 255).astype(np.uint8)


def test_mask_targets(record, rng):
    """torchvision resamples the pixels of the image, we the 112 x 112 cells of the object's box: not the same."""
    truth = random_boxes(rng, 40)
    truth = np.concatenate([np.floor(truth[:, :2]), np.ceil(truth[:, 2:])], axis=1).astype(np.float32)
    sides = np.tile(truth[:, 2:] - truth[:, :2], 2)
    boxes = (truth + sides * rng.uniform(-0.1, 0.1, truth.shape)).astype(np.float32)
    bitmaps, cells = bitmaps_and_cells(truth)
    index = np.arange(len(truth))
    theirs = array(roi_heads.project_masks_on_boxes(tensor(bitmaps), tensor(boxes), tensor(index), 28))
    arguments = (jnp.asarray(values) for values in (cells, truth, boxes, index))
    ours = np.asarray(mask_targets(*arguments, mask_size=28, aligned=False))
    for what, large in (("at least 32 pixels", True), ("below 32 pixels", False)):
        chosen = (np.sqrt(sides[:, 0] * sides[:, 1]) >= 32) == large
        difference = np.abs(ours[chosen] - theirs[chosen])
        part = f"mask targets, objects of {what}"
        record(part, "mean difference of a cell", difference.mean(), 0.03 if large else 0.08, difference.size)
        sides_differ = ((ours[chosen] >= 0.5) != (theirs[chosen] >= 0.5)).mean()
        record(part, "cells on the other side of 0.5", 100 * sides_differ, 3.0 if large else 8.0, difference.size, "%")


@pytest.mark.parametrize(("version", "rounded"), [(1, False), (2, True)])
def test_losses_and_gradients(record, monkeypatch, version, rounded):
    """A training step on one image; torchvision gets our mask targets. Version 2 is slower and has a smaller image."""
    network = small(pair(version, 18, masks=True))
    head = network.ours.mask_head.clone(num_slots=16)
    network = network._replace(ours=network.ours.clone(mask_head=head))
    part = f"training with masks, version {version}, ResNet-18"
    if rounded:
        round_off_relu(monkeypatch)
    given = examples([(128, 160) if version == 1 else (64, 96)])
    rng = np.random.default_rng(1)
    masks = jnp.asarray(rng.integers(0, 256, (1, given.targets.valid.shape[1], 16, 16)), jnp.uint8)
    given = given._replace(targets=given.targets._replace(masks=masks, has_mask=given.targets.valid))
    for target in given.theirs[1]:
        target["masks"] = torch.zeros((len(target["boxes"]), 1, 1), dtype=torch.uint8)  # not read
    answer = our_answer(network, given, jax.random.split(jax.random.key(0), 1))
    found = answer.outputs.masks
    monkeypatch.setattr(roi_heads, "project_masks_on_boxes", lambda *_: tensor(found.targets[found.valid]))

    before = {name: array(value).copy() for name, value in network.theirs.state_dict().items()}
    network.theirs.train().zero_grad()
    losses, _ = their_losses(network.theirs, given, answer.outputs.rpn.samples, answer.outputs.stages[-1].rois)
    for theirs, ours in (LOSSES | {"loss_mask": "mask"}).items():
        record.near(part, "each of the five losses", answer.losses[ours], losses[theirs].item())
    moved, *_ = record_gradients(record, part, network, losses, answer, rounded)
    assert sum(name.startswith("mask_head/") for name in moved) >= 12
    if version == 2:
        after = {name: array(value) for name, value in network.theirs.state_dict().items()}
        theirs = flatten_dict(network.in_our_layout(after)["batch_stats"]["mask_head"], sep="/")
        for name, ours in flatten_dict(answer.batch_stats["mask_head"], sep="/").items():
            if name.endswith("mean"):
                record.near(part, "running mean of the mask head", ours, theirs[name])
    network.theirs.load_state_dict({name: torch.tensor(value) for name, value in before.items()})


def run(network, images):
    """Detections of every image by us and by torchvision: boxes, scores, COCO ids, masks of 28 x 28 cells."""
    ours, theirs = [], []
    network.theirs.eval()
    network.theirs.transform.postprocess = lambda found, *_: found  # masks as they are before they are pasted
    rule = network.config.inference.to_dict() | {"max_detections": MAX_DETECTIONS}
    predict = jax.jit(lambda *inputs: detect_in(network.ours, rule, *inputs))
    for first in range(0, len(images), BATCH):
        batch = images[first : first + BATCH]
        with torch.no_grad():
            found = network.theirs([pixels(image) for image in batch])
        theirs += [
            [array(one[key]) for key in ("boxes", "scores", "labels")] + [array(one["masks"])[:, 0]] for one in found
        ]
        found = jax.device_get(predict(network.variables, *padded(batch)))
        for i in range(len(batch)):
            valid = found.valid[i]
            labels = COCO_IDS[found.labels[i][valid]]
            ours.append((found.boxes[i][valid], found.scores[i][valid], labels, found.masks[i][valid]))
    return ours, theirs


@pytest.mark.parametrize("version", [1, 2])
def test_detections(record, version):
    network = pair(version, 50, masks=True)
    network.theirs.roi_heads.detections_per_img = MAX_DETECTIONS
    network.theirs.rpn._post_nms_top_n["testing"] = 100
    rpn = network.ours.rpn
    rpn = rpn.clone(proposals=dict(rpn.proposals) | {"post_nms_test": 100})
    network = network._replace(ours=network.ours.clone(rpn=rpn))
    part = f"detector with masks, version {version}"
    images = photos(mixed_sizes())
    answers = list(zip(*run(network, images), strict=True))
    places = [pair_up(ours[:3], theirs[:3]) for ours, theirs in answers]
    num_theirs = sum(len(theirs[0]) for _, theirs in answers)
    num_same = sum((place >= 0).sum() for place in places)
    assert num_theirs > 5 * len(images)
    record(
        part, "detections of torchvision that we do not have", 100 * (1 - num_same / num_theirs), 1.0, num_theirs, "%"
    )
    ious, in_image = [], []
    for image, (ours, theirs), place in zip(images, answers, places, strict=True):
        same = place >= 0
        for row, other in zip(place[same], np.flatnonzero(same), strict=True):
            pasted = ours_in_image(ours[3][row], whole_pixels(ours[0][row]), image.shape[:2])
            in_image.append(iou(pasted, theirs_in_image(theirs[3][other], theirs[0][other], image.shape[:2])))
        one, other = ours[3][place[same]], theirs[3][same]
        record(part, "mask probabilities of the same detections", np.abs(one - other).max(), 1e-2, one.size)
        union = ((one >= 0.5) | (other >= 0.5)).sum(axis=(1, 2))
        ious.append(((one >= 0.5) & (other >= 0.5)).sum(axis=(1, 2)) / np.maximum(union, 1))
        assert (union > 0).all()
    different = (np.concatenate(ious) < 0.99).mean()
    record(part, "masks with an IoU below 0.99", 100 * different, 1.0, num_same, "%")
    different = 100 * np.mean(np.array(in_image) < 0.99)
    record(part, "pasted into torchvision's boxes of whole pixels: IoU below 0.99", different, 1.0, num_same, "%")
