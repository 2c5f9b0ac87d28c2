"""Losses and the gradient of every parameter, on the same anchors and RoIs."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.parity.detectors import pair
from tests.parity.reference import array
from tests.parity.training import LOSSES, examples, our_step, their_losses


@pytest.mark.parametrize(("version", "depth"), [(1, 18), (2, 18), (1, 50)])
def test_losses_and_gradients(record, version, depth):
    network = pair(version, depth)
    given = examples([(128, 160), (117, 150)])
    part = f"training, version {version}, ResNet-{depth}"
    answer = our_step(network)(network.variables, given, jax.random.split(jax.random.key(0), 2))
    # Ours is divided by the number of slots, theirs by the number of samples: equal where every slot is filled.
    assert answer.outputs.anchor_samples.valid.all() and answer.outputs.rois.valid.all()

    before = {name: array(value).copy() for name, value in network.theirs.state_dict().items()}
    network.theirs.train()
    losses, distances = their_losses(network.theirs, given, answer.outputs)
    record(part, "sampled RoIs among torchvision's proposals", distances.max(), 0.01, len(distances), "px")
    for theirs, ours in LOSSES.items():
        record.near(part, "the four losses", answer.losses[ours], losses[theirs].item())

    sum(losses.values()).backward()
    arrays = {name: np.zeros_like(value) for name, value in before.items()}
    arrays |= {name: array(p.grad) for name, p in network.theirs.named_parameters() if p.grad is not None}
    theirs = flatten_dict(network.in_our_layout(arrays)["params"], sep="/")
    ours = flatten_dict(answer.gradients, sep="/")
    moved = [name for name in ours if theirs[name].any()]
    frozen = [name for name in ours if not theirs[name].any()]
    for name in moved:
        error = np.linalg.norm(ours[name] - theirs[name]) / np.linalg.norm(theirs[name])
        record(part, f"gradients of {len(moved)} parameters", error, 1e-3, ours[name].size)
    for name in frozen:
        record.same(part, f"gradients of {len(frozen)} frozen parameters are zero", ours[name], theirs[name])
