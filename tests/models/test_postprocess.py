import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.models.postprocess import detect
from lga_jax.models.roi.stage import CODER_WEIGHTS
from lga_jax.structs import Gaussians, Outputs, RoIs, StageOutputs

RULES = dict(score_threshold=0.05, nms_iou=0.5, min_size=0.0, max_candidates=20, max_detections=5)
HW = jnp.array([[30.0, 40.0]])


def outputs(boxes, probabilities, valid=None, gaussians=None):
    boxes = jnp.asarray(boxes, jnp.float32)
    num_rois, num_classes = boxes.shape[0], len(probabilities[0]) - 1
    valid = jnp.ones(num_rois, bool) if valid is None else jnp.asarray(valid)
    stage = StageOutputs(
        rois=RoIs(boxes=boxes[None], scores=jnp.zeros((1, num_rois)), valid=valid[None]),
        targets=None,
        gaussians=gaussians,
        guide_logits=None,
        class_logits=jnp.log(jnp.asarray(probabilities, jnp.float32))[None],
        box_deltas=jnp.zeros((1, num_rois, num_classes, 4)),
        coder_weights=jnp.asarray(CODER_WEIGHTS),
    )
    return Outputs(rpn=None, stages=(stage,))


def test_by_hand():
    """Two overlapping RoIs of one class, the second class of the first, and a RoI that leaves the image."""
    boxes = [[0, 0, 10, 10], [0, 0, 10, 11], [20, 20, 60, 60]]
    found = detect(outputs(boxes, [[0.7, 0.2, 0.1], [0.6, 0.01, 0.39], [0.1, 0.5, 0.4]]), HW, **RULES)
    assert found.valid[0].tolist() == [True, True, True, True, False]
    np.testing.assert_allclose(found.scores[0], [0.7, 0.5, 0.2, 0.1, 0.0], rtol=1e-5)
    assert found.labels[0].tolist() == [0, 1, 1, 0, 0]
    np.testing.assert_allclose(found.boxes[0, 0], [0, 0, 10, 10], atol=1e-4)
    np.testing.assert_allclose(found.boxes[0, 1], [20, 20, 40, 30], atol=1e-4)  # clipped
    np.testing.assert_allclose(found.rois[0, 1], [20, 20, 60, 60])  # the RoI is as it was
    assert found.mask_centres.shape == (1, 5, 0, 2)


def test_a_cascade_has_the_boxes_of_the_last_stage_and_the_mean_score():
    boxes = [[0, 0, 10, 10]]
    first, last = outputs(boxes, [[0.9, 0.1]]), outputs(boxes, [[0.8, 0.2]])
    (stage,) = last.stages
    moved = stage._replace(box_deltas=stage.box_deltas.at[..., 0].set(5.0), coder_weights=jnp.array([20.0, 20, 10, 10]))
    found = detect(first._replace(stages=(*first.stages, moved)), HW, **RULES)
    assert found.scores[0].tolist() == pytest.approx([0.85])  # the mean over both stages
    np.testing.assert_allclose(found.boxes[0, 0], [2.5, 0, 12.5, 10], atol=1e-4)


def test_boxes_below_the_smallest_size_neither_appear_nor_suppress():
    boxes = [[0, 0, 10, 4], [0, 0, 10, 6]]  # the first overlaps the second by two thirds
    small = outputs(boxes, [[0.9, 0.1], [0.8, 0.2]])
    assert detect(small, HW, **RULES).scores[0, :2].tolist() == np.float32([0.9, 0.0]).tolist()
    assert detect(small, HW, **RULES | {"min_size": 5.0}).scores[0, :2].tolist() == np.float32([0.8, 0.0]).tolist()


def test_one_box_for_all_classes():
    several = outputs([[0, 0, 10, 10]], [[0.5, 0.4, 0.1]])
    (stage,) = several.stages
    moved = stage._replace(box_deltas=stage.box_deltas.at[..., 0].set(5.0))
    agnostic = stage._replace(box_deltas=moved.box_deltas[:, :, :1])
    expected, found = (detect(several._replace(stages=(one,)), HW, **RULES) for one in (moved, agnostic))
    jax.tree.map(np.testing.assert_array_equal, expected, found)
    assert found.labels[0, :2].tolist() == [0, 1]


def test_masks_of_an_earlier_stage_are_given_with_its_roi():
    gaussians = Gaussians(jnp.full((1, 1, 1, 2), 3.5), jnp.ones((1, 1, 1, 2)), jnp.zeros((1, 1, 1, 7, 7)))
    first = outputs([[0, 0, 7, 7]], [[0.9, 0.1]], gaussians=gaussians)
    last = outputs([[10, 0, 24, 14]], [[0.9, 0.1]])
    found = detect(first._replace(stages=(*first.stages, *last.stages)), HW, **RULES)
    assert found.rois[0, 0].tolist() == [0, 0, 7, 7] and found.mask_centres[0, 0].tolist() == [[3.5, 3.5]]
    np.testing.assert_allclose(found.boxes[0, 0], [10, 0, 24, 14], atol=1e-4)


def test_invalid_rois_give_nothing():
    found = detect(outputs([[0, 0, 10, 10]] * 3, [[0.9, 0.1]] * 3, valid=[False] * 3), HW, **RULES)
    assert not found.valid.any()
    assert not found.boxes.any()


def test_masks_are_given_in_pixels_of_the_input():
    gaussians = Gaussians(
        centres=jnp.array([[[[3.5, 3.5], [0.0, 7.0]]]]),
        sigmas=jnp.array([[[[1.0, 2.0], [7.0, 7.0]]]]),
        masks=jnp.zeros((1, 1, 2, 7, 7)),
    )
    found = detect(outputs([[10, 0, 24, 28]], [[0.9, 0.1]], gaussians=gaussians), HW, **RULES)
    np.testing.assert_allclose(found.mask_centres[0, 0], [[17, 14], [10, 28]])
    np.testing.assert_allclose(found.mask_sigmas[0, 0], [[2, 8], [14, 28]])


def test_best_first_whatever_the_order_of_the_rois():
    random = np.random.default_rng(0)
    corners = random.uniform(0, 20, (12, 2))
    boxes = np.concatenate([corners, corners + random.uniform(5, 15, (12, 2))], axis=1)
    probabilities = random.dirichlet(np.ones(4), 12)
    order = random.permutation(12)
    first, second = (
        jax.device_get(detect(outputs(b, p), HW, **RULES))
        for b, p in ((boxes, probabilities), (boxes[order], probabilities[order]))
    )
    np.testing.assert_allclose(first.boxes, second.boxes, atol=1e-4)
    assert np.all(np.diff(first.scores[0]) <= 0)
