"""Proposals and detections are those of the library, at full and at unused slots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.exporting.onnx_writer.selection import Regions, choose, propose
from lga_jax.models.postprocess import detect
from lga_jax.models.rpn import CODER_WEIGHTS, select_proposals
from lga_jax.structs import Outputs, RoIs, RPNOutputs, StageOutputs
from tests.exporting.onnx_writer.running import close, run

RNG = np.random.default_rng(0)
NO_RPN = RPNOutputs(jnp.zeros((1, 4)), jnp.zeros((1, 1)), jnp.zeros((1, 1, 4)), None)
HW = np.float32([50, 60])
LIMIT = np.float32([60, 50, 60, 50])


def boxes(count):
    corner = RNG.uniform(-5, 45, (count, 2))
    return np.concatenate([corner, corner + RNG.uniform(2, 25, (count, 2))], axis=1).astype(np.float32)


@pytest.mark.parametrize("post_nms", [12, 60])
def test_proposals_of_levels_of_different_lengths(post_nms):
    rule = dict(pre_nms_test=20, post_nms_test=post_nms, nms_iou=0.5, min_size=3.0)
    counts = (40, 12)
    anchors = [boxes(count) for count in counts]
    objectness = [RNG.normal(size=count).astype(np.float32) for count in counts]
    deltas = [RNG.normal(0, 0.3, (count, 4)).astype(np.float32) for count in counts]
    places = [jnp.asarray(level) for level in anchors]
    settings = dict(pre_nms=20, post_nms=post_nms, nms_iou=0.5, min_size=3.0)
    expected = jax.jit(lambda o, d: select_proposals(o, d, places, jnp.asarray(HW), **settings))(objectness, deltas)
    found = run(
        lambda a, b, c, d, limit: propose([a, b], [c, d], anchors, limit, CODER_WEIGHTS, rule),
        *objectness,
        *deltas,
        LIMIT,
    )
    count = len(found.valid)
    assert count == min(post_nms, 40)
    np.testing.assert_array_equal(found.valid, expected.valid[:count])
    assert not expected.valid[count:].any() and found.valid.sum() > 5
    close(found.boxes, expected.boxes[:count], 1e-4)


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_detections_of_many_classes(class_agnostic):
    count, classes = 30, 4
    rule = dict(score_threshold=0.2, nms_iou=0.4, min_size=3.0, max_candidates=50, max_detections=40)
    rois = RoIs(boxes(count)[None], np.zeros((1, count), np.float32), RNG.random((1, count)) < 0.8)
    logits = RNG.normal(0, 1.5, (1, count, classes + 1)).astype(np.float32)
    deltas = RNG.normal(0, 1, (1, count, 1 if class_agnostic else classes, 4)).astype(np.float32)
    weights = (10.0, 10.0, 5.0, 5.0)
    stage = StageOutputs(rois, None, None, None, logits, deltas, jnp.asarray(weights))
    expected = jax.tree.map(
        lambda x: x[0], jax.jit(lambda s: detect(Outputs(NO_RPN, (s,)), jnp.asarray(HW[None]), **rule))(stage)
    )

    def chosen(boxes, valid, logits, deltas, limit):
        scores = logits.apply("Softmax", axis=1).slice(1, 0, classes)
        return choose(scores, deltas, Regions(boxes, valid), limit, weights, rule)

    found = run(chosen, rois.boxes[0], rois.valid[0], logits[0], deltas[0].reshape(count, -1), LIMIT)
    used = np.asarray(expected.valid)
    np.testing.assert_array_equal(found.valid, used)
    assert 5 < used.sum() < 40
    np.testing.assert_array_equal(found.labels[used], expected.labels[used])
    close(found.boxes[used], expected.boxes[used], 1e-4)
    close(found.scores[used], expected.scores[used])
    close(rois.boxes[0][found.regions[used]], expected.rois[used])
