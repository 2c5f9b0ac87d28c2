"""Losses on evaluation images: means over the real images, the same for every batch size."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.coco import get_config
from lga_jax.evaluation import losses
from lga_jax.models.detector import Detector
from lga_jax.structs import Batch, Targets

RULE = get_config().losses.to_dict()


def batch_of(index, values, num_devices):
    """Images of one pixel with these values, as [devices, b, ...]."""
    size = len(index)
    leaves = Batch(
        images=np.broadcast_to(np.uint8(values)[:, None, None, None], (size, 1, 1, 3)),
        image_hw=np.ones((size, 2), np.float32),
        scale_hw=np.ones((size, 2), np.float32),
        targets=Targets(np.ones((size, 1, 4), np.float32), np.zeros((size, 1), np.int32), np.ones((size, 1), bool)),
        index=np.int32(index),
    )
    return jax.tree.map(lambda leaf: jnp.asarray(leaf.reshape(num_devices, -1, *leaf.shape[1:])), leaves)


class Pixels(Detector):
    """The outputs are a parameter times the pixel, and a sample drawn with the image's key."""

    def apply(self, variables, images, image_hw, targets, keys, mutable):
        assert images.shape == (1, 1, 1, 3) and targets.boxes.shape == (1, 1, 4)
        return (variables["params"] * images.astype(jnp.float32).mean(), jax.random.uniform(keys[0])), {}


@pytest.fixture
def stub(monkeypatch):
    def detection_losses(stages, outputs, targets, rule):
        assert rule is RULE
        return {"pixel": outputs[0], "sample": outputs[1], "total": outputs[0]}

    monkeypatch.setattr(losses, "detection_losses", detection_losses)
    part = nn.Dense(1)
    return Pixels(part, part, part, (), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), jnp.float32)


def measured(detector, index, values, num_devices, **extra):
    step = losses.make_loss_step(detector, RULE, **extra)
    meter = losses.LossMeter(step, {"params": jnp.float32(0.5)})
    size = len(index) // 2
    parts = [batch_of(index[i : i + size], values[i : i + size], num_devices) for i in (0, size)]
    assert list(meter.watch(parts)) == parts
    return meter.means()


def test_the_mean_is_over_images_and_not_over_rows_that_fill_up(stub):
    found = measured(stub, [0, 1, 2, -1], [10, 20, 60, 200], 1)
    assert found["total"] == found["pixel"] == pytest.approx(15)
    assert list(found) == ["pixel", "sample", "total"]


def test_batches_and_devices_do_not_matter(stub):
    one = measured(stub, [0, 1, 2, 3], [10, 20, 60, 70], 1)
    other = measured(stub, [3, 1, -1, -1, 2, 0, -1, -1], [70, 20, 9, 9, 60, 10, 9, 9], 4)
    assert one == pytest.approx(other) and 0 < one["sample"] < 1


def test_losses_of_the_caller_are_added(stub):
    found = measured(stub, [0, 1], [10, 20], 1, extra_losses={"own": lambda outputs, batch: batch.index.sum() * 1.0})
    assert found["own"] == pytest.approx(0.5) and found["total"] == pytest.approx(7.5 + 0.5)
