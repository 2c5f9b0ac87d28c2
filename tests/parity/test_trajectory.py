"""Twenty steps of SGD: our training step on two devices, torch.optim.SGD on one."""

from typing import NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from lga_jax.models.freezing import frozen_labels
from lga_jax.models.losses import detection_losses
from lga_jax.structs import DEVICE_AXIS, Batch, RoIs, Samples
from lga_jax.training import step as step_module
from lga_jax.training.optimizer import make_optimizer
from lga_jax.training.step import create_state, make_train_step
from tests.parity.detectors import pair
from tests.parity.reference import array, torch
from tests.parity.training import examples, small, their_losses

NUM_STEPS = 20
# The loss still falls from 5 to 3. At six times this rate the steps are chaotic: rounding grows threefold with each.
LEARNING_RATE, WARMUP_STEPS, WARMUP_FACTOR = 5e-5, 10, 1e-3
# The decay is so strong that the parameters would show it if it were missing.
MOMENTUM, WEIGHT_DECAY = 0.9, 0.05
PART = f"{NUM_STEPS} steps of SGD"


class Sampled(NamedTuple):
    """What a step drew for its losses."""

    samples: Samples
    rois: RoIs


def on_two_devices(given):
    """The examples as a batch of our loader, one image to a device."""
    batch = Batch(given.images, given.image_hw, np.ones((2, 2)), given.targets, np.arange(2))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:, None], batch)


def watch_samples(monkeypatch):
    """Lets training steps tell what they sampled: returns a function that gives the last one's anchors and RoIs."""
    seen = {}

    def losses(stages, outputs, targets, rule):
        told = Sampled(outputs.rpn.samples, outputs.stages[0].rois)
        jax.debug.callback(lambda device, told: seen.update({int(device): told}), jax.lax.axis_index(DEVICE_AXIS), told)
        return detection_losses(stages, outputs, targets, rule)

    def last():
        jax.effects_barrier()
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), seen[0], seen[1])

    monkeypatch.setattr(step_module, "detection_losses", losses)
    return last


def test_twenty_steps(record, monkeypatch):
    network = small(pair(1, 18))
    batches = [examples([(96, 128), (90, 117)], seed) for seed in range(4)]
    samples = watch_samples(monkeypatch)
    optim = network.config.optim
    optim.lr, optim.lr_batch_size, optim.warmup_steps, optim.warmup_factor = (
        LEARNING_RATE,
        2,
        WARMUP_STEPS,
        WARMUP_FACTOR,
    )
    optim.momentum, optim.weight_decay = MOMENTUM, WEIGHT_DECAY
    labels = frozen_labels(network.variables["params"], network.ours.backbone)
    optimizer, _ = make_optimizer(optim, 2, NUM_STEPS, labels)
    step = make_train_step(network.ours, optimizer, network.config.losses.to_dict(), ema_decay=0.0, seed=0)
    state = create_state(network.variables, optimizer, ema=False)

    theirs = network.theirs.train()
    before = {name: array(value).copy() for name, value in theirs.state_dict().items()}
    trained = [parameter for parameter in theirs.parameters() if parameter.requires_grad]
    their_optimizer = torch.optim.SGD(trained, LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    warmup = torch.optim.lr_scheduler.LinearLR(their_optimizer, WARMUP_FACTOR, total_iters=WARMUP_STEPS)
    for number in range(NUM_STEPS):
        given = batches[number % len(batches)]
        state, metrics = step(state, on_two_devices(given))
        drawn = samples()
        assert drawn.samples.valid.all() and drawn.rois.valid.all()
        losses, _ = their_losses(theirs, given, drawn.samples, drawn.rois)
        total = sum(losses.values())
        their_optimizer.zero_grad()
        total.backward()
        their_optimizer.step()
        warmup.step()
        record.near(PART, "loss before each step", metrics["total"], total.item(), 1e-3)

    ours = flatten_dict(jax.device_get(state.params), sep="/")
    start = flatten_dict(network.variables["params"], sep="/")
    after = {name: array(value) for name, value in theirs.state_dict().items()}
    for name, value in flatten_dict(network.in_our_layout(after)["params"], sep="/").items():
        difference = np.linalg.norm(ours[name] - value)
        record(PART, "each parameter", difference / np.linalg.norm(value), 1e-3, value.size)
        if moved := np.linalg.norm(value - start[name]):
            record(PART, "how far it moved", difference / moved, 1e-2, value.size)
    theirs.load_state_dict({name: torch.tensor(value) for name, value in before.items()})
