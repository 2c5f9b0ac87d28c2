"""One training step on both sides, on the same anchors and RoIs: those that lga_jax draws."""

from typing import Any, NamedTuple

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from lga_jax.models.losses import detection_losses
from lga_jax.structs import DEVICE_AXIS, Outputs, Targets
from tests.parity.detectors import COCO_IDS, padded, photos, pixels
from tests.parity.reference import array, tensor, torch

LOSSES = {
    "loss_objectness": "rpn_objectness",
    "loss_rpn_box_reg": "rpn_box",
    "loss_classifier": "roi_class",
    "loss_box_reg": "roi_box",
}
SLOTS = 6


class Examples(NamedTuple):
    """Images with objects, as both sides take them."""

    images: Any
    image_hw: Any
    targets: Targets
    theirs: tuple  # images, targets


def examples(sizes, seed=0):
    """Photos with random boxes of random classes, three to five to an image."""
    rng = np.random.default_rng(seed)
    images = photos(sizes)
    targets = Targets(
        np.zeros((len(sizes), SLOTS, 4), np.float32),
        np.zeros((len(sizes), SLOTS), np.int32),
        np.zeros((len(sizes), SLOTS), bool),
    )
    their_targets = []
    for i, (height, width) in enumerate(sizes):
        count = rng.integers(3, SLOTS)
        sides = rng.uniform(16, 0.6 * min(height, width), (count, 2))
        corners = rng.uniform(0, 1, (count, 2)) * ((width, height) - sides)
        targets.boxes[i, :count] = np.concatenate([corners, corners + sides], axis=1)
        targets.labels[i, :count] = rng.integers(0, len(COCO_IDS), count)
        targets.valid[i, :count] = True
        labels = COCO_IDS[targets.labels[i, :count]]
        their_targets.append(dict(boxes=tensor(targets.boxes[i, :count]), labels=tensor(labels)))
    return Examples(
        *padded(images), jax.tree.map(jnp.asarray, targets), ([pixels(image) for image in images], their_targets)
    )


class Answer(NamedTuple):
    """What we make of examples."""

    losses: dict
    outputs: Outputs
    gradients: Any
    batch_stats: Any


def small(network):
    """The network with fewer proposals and RoIs to an image than the recipe has: a CPU is slow."""
    (stage,) = network.ours.stages
    stage = stage.clone(sampling=dict(stage.sampling) | {"num_samples": 64})
    proposals = dict(network.ours.rpn.proposals) | {"pre_nms_train": 500, "post_nms_train": 600}
    network.theirs.rpn._pre_nms_top_n["training"] = 500
    network.theirs.rpn._post_nms_top_n["training"] = 600
    return network._replace(ours=network.ours.clone(rpn=network.ours.rpn.clone(proposals=proposals), stages=(stage,)))


def our_answer(network, given, keys):
    """Losses, samples, gradients and new statistics on examples."""

    def step(params, batch):
        images, image_hw, targets, keys = batch

        def loss(params):
            variables = {"params": params, "batch_stats": network.variables["batch_stats"]}
            outputs, updated = network.ours.apply(variables, images, image_hw, targets, keys, mutable=["batch_stats"])
            losses = detection_losses(network.ours.stages, outputs, targets, network.config.losses.to_dict())
            return losses["total"], (losses, outputs, updated["batch_stats"])

        gradients, (losses, outputs, updated) = jax.grad(loss, has_aux=True)(params)
        return Answer(losses, outputs, gradients, updated)

    # Batch norm wants to know the axis of the devices; here it has one.
    mapped = jax.vmap(step, in_axes=(None, 0), axis_name=DEVICE_AXIS)
    batch = jax.tree.map(lambda leaf: leaf[None], (given.images, given.image_hw, given.targets, keys))
    answer = jax.device_get(jax.jit(mapped)(network.variables["params"], batch))
    return jax.tree.map(lambda leaf: leaf[0], answer)


def their_losses(theirs, given, samples, rois):
    """Losses of torchvision on our `samples` of anchors and our sampled `rois`.

    And how far from every sampled RoI the nearest proposal of torchvision lies, in pixels."""
    distances = []

    def sampled_anchors(labels):
        masks = []
        for i, label in enumerate(labels):
            chosen = tensor(samples.index[i][samples.valid[i]])
            mask = torch.zeros(len(label), dtype=torch.bool)
            mask[chosen] = True
            masks.append((mask & (label >= 1), mask & (label == 0)))
            assert torch.equal(masks[-1][0][chosen], tensor(samples.positive[i][samples.valid[i]])), "labels differ"
        return zip(*masks, strict=True)

    def sampled_rois(proposals, targets):
        heads = theirs.roi_heads
        boxes, labels = ([target[key] for target in targets] for key in ("boxes", "labels"))
        chosen = [tensor(rois.boxes[i][rois.valid[i]]) for i in range(len(targets))]
        for own, ours in zip(heads.add_gt_proposals(proposals, boxes), chosen, strict=True):
            distances.append((own[None] - ours[:, None]).abs().amax(-1).amin(1))
        matched, labels = heads.assign_targets_to_proposals(chosen, boxes, labels)
        wanted = [box[index] for box, index in zip(boxes, matched, strict=True)]
        return chosen, matched, labels, heads.box_coder.encode(wanted, chosen)

    theirs.rpn.fg_bg_sampler = sampled_anchors
    theirs.roi_heads.select_training_samples = sampled_rois
    losses = theirs(*given.theirs)
    return losses, array(torch.cat(distances))


def round_off_relu(monkeypatch):
    """Both sides get softplus(10 x) / 10 for ReLU.

    The gradient of a ReLU network jumps where a unit crosses zero. Rounding makes a few of a million units cross, and
    each moves the gradient of the layers before it by about 1e-3. Without the jump, what is left is a true difference.
    """
    monkeypatch.setattr(flax.linen, "relu", lambda x: jax.nn.softplus(10 * x) / 10)
    monkeypatch.setattr(torch.nn.functional, "relu", lambda x, inplace=False: torch.nn.functional.softplus(x, beta=10))


def record_gradients(record, part, network, losses, answer, rounded):
    """Compares the gradient of every parameter that torchvision trains.

    `rounded`: after `round_off_relu`. Returns the names of these parameters, and all gradients of both sides.
    """
    sum(losses.values()).backward()
    arrays = {name: np.zeros_like(array(value)) for name, value in network.theirs.state_dict().items()}
    arrays |= {name: array(p.grad) for name, p in network.theirs.named_parameters() if p.grad is not None}
    theirs = flatten_dict(network.in_our_layout(arrays)["params"], sep="/")
    ours = flatten_dict(answer.gradients, sep="/")
    moved = [name for name in ours if np.any(theirs[name])]
    what = f"gradient of each of {len(moved)} parameters, {'ReLU rounded off' if rounded else 'ReLU'}"
    for name in moved:
        error = np.linalg.norm(ours[name] - theirs[name]) / np.linalg.norm(theirs[name])
        record(part, what, error, 1e-3 if rounded else 1e-2, ours[name].size)
    return moved, ours, theirs
