"""Twenty steps of SGD: our training step on two devices, torch.optim.SGD on one."""

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from lga_jax.models.resnet import frozen_labels
from lga_jax.structs import Batch
from lga_jax.train.optimizer import make_optimizer
from lga_jax.train.step import create_state, make_train_step
from tests.parity.detectors import pair
from tests.parity.reference import array, torch
from tests.parity.training import examples, small, their_losses

NUM_STEPS, WARMUP_STEPS, WARMUP_FACTOR, SEED = 20, 10, 1e-3, 3


def on_two_devices(given):
    """The examples as a batch of our loader, one image to a device."""
    num_images = len(given.images)
    batch = Batch(given.images, given.image_hw, np.ones((num_images, 2)), given.targets, np.arange(num_images))
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(2, num_images // 2, *leaf.shape[1:]), batch)


def test_twenty_steps(record):
    network = small(pair(1, 18))
    batches = [examples([(96, 128), (90, 117)], seed) for seed in range(4)]
    optim = network.config.optim
    optim.lr, optim.lr_batch_size, optim.warmup_steps, optim.warmup_factor = 0.01, 2, WARMUP_STEPS, WARMUP_FACTOR
    assert (optim.momentum, optim.weight_decay) == (0.9, 1e-4)
    labels = frozen_labels(network.variables["params"], network.config.model.backbone.frozen_stages)
    optimizer, _ = make_optimizer(optim, 2, NUM_STEPS, labels)
    step = make_train_step(network.ours, optimizer, network.config.losses.to_dict(), ema_decay=0.0, seed=SEED)
    state = create_state(network.variables, optimizer, ema=False)
    forward = jax.jit(network.ours.apply)

    theirs = network.theirs.train()
    before = {name: array(value).copy() for name, value in theirs.state_dict().items()}
    trained = [parameter for parameter in theirs.parameters() if parameter.requires_grad]
    their_optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9, weight_decay=1e-4)
    warmup = torch.optim.lr_scheduler.LinearLR(their_optimizer, WARMUP_FACTOR, total_iters=WARMUP_STEPS)
    for number in range(NUM_STEPS):
        given = batches[number % len(batches)]
        # The samples of this step: what the training step itself draws at these parameters.
        variables = jax.device_get({"params": state.params, "batch_stats": state.batch_stats})
        key = jax.random.fold_in(jax.random.key(SEED), number)
        keys = jax.vmap(lambda i, key=key: jax.random.fold_in(key, i))(jnp.arange(2))
        outputs = jax.device_get(forward(variables, given.images, given.image_hw, given.targets, keys))
        assert outputs.anchor_samples.valid.all() and outputs.rois.valid.all()

        state, metrics = step(state, on_two_devices(given))
        losses, _ = their_losses(theirs, given, outputs)
        total = sum(losses.values())
        their_optimizer.zero_grad()
        total.backward()
        their_optimizer.step()
        warmup.step()
        record.near("20 steps of SGD", "loss of each step", metrics["total"], total.item(), 1e-3)

    ours = flatten_dict(jax.device_get(state.params), sep="/")
    start = flatten_dict(network.variables["params"], sep="/")
    after = {name: array(value) for name, value in theirs.state_dict().items()}
    wanted = flatten_dict(network.in_our_layout(after)["params"], sep="/")
    for name, value in wanted.items():
        difference = np.linalg.norm(ours[name] - value)
        record("20 steps of SGD", "parameters", difference / np.linalg.norm(value), 1e-3, value.size)
        if moved := np.linalg.norm(value - start[name]):
            record("20 steps of SGD", "how far parameters moved", difference / moved, 2e-2, value.size)
    theirs.load_state_dict({name: torch.tensor(value) for name, value in before.items()})
