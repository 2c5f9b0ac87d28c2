"""Detections of batches become detections of a source."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.inference.locate import Located, locate, without_filling
from lga_jax.structs import Batch, Detections, Targets


def located(index, slots=2):
    """Rows whose score is their index over 10, in the first slot."""
    count = len(index)
    scores = np.zeros((count, slots), np.float32)
    scores[:, 0] = np.array(index) / 10
    pairs = np.zeros((count, slots, 0, 2), np.float32)
    boxes = np.zeros((count, slots, 4), np.float32)
    masks = np.zeros((count, slots, 0, 0), np.float32)
    detections = Detections(boxes, scores, np.ones((count, slots), np.int32), scores > 0, boxes, pairs, pairs, masks)
    return Located(np.array(index, np.int32), np.full((count, 2), 0.5, np.float32), detections)


def batch(index):
    """A batch of two devices."""
    shape = (2, len(index) // 2)
    zeros = np.zeros
    return Batch(
        images=zeros((*shape, 4, 4, 3), np.uint8),
        image_hw=zeros((*shape, 2), np.float32),
        scale_hw=jnp.full((*shape, 2), 0.5),
        targets=Targets(zeros((*shape, 0, 4), np.float32), zeros((*shape, 0), np.int32), zeros((*shape, 0), bool)),
        index=jnp.array(index, jnp.int32).reshape(shape),
    )


def test_a_step_runs_one_batch_ahead_of_its_caller():
    events = []

    def step(variables, batch):
        events.append(("step", batch.index.ravel().tolist()))
        return jax.tree.map(lambda leaf: leaf.reshape(2, 2, *leaf.shape[1:]), located([0] * 4).detections)

    for found in locate(step, {}, [batch([0, 1, 2, 3]), batch([4, 5, 6, -1])]):
        events.append(("found", found.index.tolist()))
        assert found.detections.scores.shape == (4, 2) and found.detections.mask_centres.shape == (4, 2, 0, 2)
        np.testing.assert_array_equal(found.scale_hw, np.full((4, 2), 0.5))
    first, second = [0, 1, 2, 3], [4, 5, 6, -1]
    assert events == [("step", first), ("step", second), ("found", first), ("found", second)]
    assert list(locate(step, {}, [])) == []


def test_rows_that_only_fill_a_batch_can_be_left_out():
    rest = without_filling(located([3, -1, 0, -1]))
    assert rest.index.tolist() == [3, 0]
    assert rest.detections.scores[:, 0].tolist() == pytest.approx([0.3, 0.0])
