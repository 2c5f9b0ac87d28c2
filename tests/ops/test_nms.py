import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.ops.nms import nms
from tests.ops.platforms import use_forms_of
from tests.reference.boxes import pairwise_iou, random_boxes
from tests.reference.nms import greedy_nms

THRESHOLDS = (0.1, 0.3, 0.5, 0.7)
COUNT = 60
jitted = jax.jit(nms, static_argnums=2)
classwise = jax.jit(lambda boxes, scores, threshold, classes: nms(boxes, scores, threshold, classes), static_argnums=2)


def clustered(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes that crowd around few objects, so that chains of suppression are long; scores with many ties; classes."""
    rng = np.random.default_rng(seed)
    objects = random_boxes(rng, 6, (60, 60))
    boxes = objects[rng.integers(0, 6, COUNT)] + rng.normal(0, 3, (COUNT, 4))
    boxes = np.concatenate([boxes[:, :2], np.maximum(boxes[:, 2:], boxes[:, :2] + 1)], axis=1)
    return boxes.astype(np.float32), np.round(rng.random(COUNT), 1).astype(np.float32), rng.integers(0, 3, COUNT)


def chain(length: int, overlap: float) -> np.ndarray:
    """Boxes in a row, each overlapping its neighbours by the given IoU."""
    step = 100 * (1 - overlap) / (1 + overlap)
    x = np.arange(length, dtype=np.float32) * np.float32(step)
    return np.stack([x, np.zeros(length), x + 100, np.full(length, 100)], axis=1).astype(np.float32)


def test_a_suppressed_box_suppresses_nothing():
    # A takes B out, so that C, which only B overlaps, stays: the case that tiled algorithms get wrong below 0.5.
    boxes = jnp.asarray(chain(3, 0.4))
    np.testing.assert_allclose(pairwise_iou(boxes, boxes)[0], [1, 0.4, 0.08], atol=5e-3)
    scores = jnp.array([0.9, 0.8, 0.7])
    assert jitted(boxes, scores, 0.3).tolist() == [True, False, True]
    assert jitted(boxes, scores, 0.5).tolist() == [True, True, True]


def test_equal_scores_go_by_order():
    boxes = jnp.array([[0, 0, 10, 9], [0, 0, 10, 10], [0, 0, 10, 8]], jnp.float32)
    assert jitted(boxes, jnp.array([0.5, 0.5, 0.5]), 0.5).tolist() == [True, False, False]


def test_overlap_equal_to_the_threshold_is_kept():
    boxes = jnp.array([[0, 0, 10, 10], [0, 0, 10, 5]], jnp.float32)
    assert jitted(boxes, jnp.array([0.9, 0.8]), 0.5).tolist() == [True, True]


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_equals_greedy(threshold):
    for seed in range(8):
        boxes, scores, _ = clustered(seed)
        expected = greedy_nms(boxes, scores, threshold)
        assert 1 < expected.sum() < COUNT  # the case says something
        np.testing.assert_array_equal(jitted(boxes, scores, threshold), expected)
    np.testing.assert_array_equal(nms(jnp.asarray(boxes), jnp.asarray(scores), threshold), expected)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_classwise_equals_greedy_in_each_class(threshold):
    for seed in range(8):
        boxes, scores, classes = clustered(seed)
        keep = np.asarray(classwise(boxes, scores, threshold, classes))
        np.testing.assert_array_equal(keep, greedy_nms(boxes, scores, threshold, classes))
        for label in range(3):
            chosen = classes == label
            np.testing.assert_array_equal(keep[chosen], greedy_nms(boxes[chosen], scores[chosen], threshold))


def test_classes_never_suppress_each_other():
    boxes = np.tile(np.array([[1e4, 1e4, 1e4 + 10, 1e4 + 10]], np.float32), (COUNT, 1))
    assert classwise(boxes, np.linspace(0, 1, COUNT, dtype=np.float32), 0.1, np.arange(COUNT)).all()


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_long_chain(threshold):
    boxes, scores = chain(COUNT, 0.79), np.linspace(1, 0.1, COUNT, dtype=np.float32)
    np.testing.assert_array_equal(jitted(boxes, scores, threshold), greedy_nms(boxes, scores, threshold))


def test_blocks_of_other_platforms_equal_greedy(monkeypatch):
    """300 boxes are three blocks; some slots are empty."""
    use_forms_of("cuda", monkeypatch)
    blocks = jax.jit(lambda boxes, scores, classes: nms(boxes, scores, 0.4, classes))
    for seed in range(4):
        parts = [clustered(10 * seed + i) for i in range(5)]
        boxes, scores, classes = (np.concatenate(leaves) for leaves in zip(*parts, strict=True))
        scores = np.where(scores > 0.2, scores, -np.inf).astype(np.float32)
        for labels in (classes, np.zeros_like(classes)):
            expected = greedy_nms(boxes, scores, 0.4, labels)
            np.testing.assert_array_equal(blocks(boxes, scores, labels), expected)


def test_blocks_decide_a_long_chain(monkeypatch):
    use_forms_of("tpu", monkeypatch)
    boxes, scores = chain(200, 0.79), np.linspace(1, 0.1, 200, dtype=np.float32)
    np.testing.assert_array_equal(jax.jit(nms, static_argnums=2)(boxes, scores, 0.5), greedy_nms(boxes, scores, 0.5))


def test_boxes_may_be_permuted():
    boxes, _, _ = clustered(3)
    scores = np.random.default_rng(3).permutation(np.linspace(0, 1, COUNT, dtype=np.float32))
    order = np.random.default_rng(4).permutation(COUNT)
    np.testing.assert_array_equal(
        jitted(boxes[order], scores[order], 0.3), np.asarray(jitted(boxes, scores, 0.3))[order]
    )


def test_what_is_kept_may_be_suppressed_again_without_loss():
    boxes, scores, _ = clustered(5)
    keep = jitted(boxes, scores, 0.3)
    np.testing.assert_array_equal(jitted(boxes, jnp.where(keep, scores, -jnp.inf), 0.3), keep)


def test_empty_slots_are_neither_kept_nor_do_they_suppress():
    boxes = np.zeros((COUNT, 4), np.float32)
    boxes[:3] = [0, 0, 10, 10]
    scores = np.full(COUNT, -np.inf, np.float32)
    scores[1:3] = (0.2, 0.1)
    assert np.flatnonzero(jitted(boxes, scores, 0.5)).tolist() == [1]
    assert not jitted(boxes, np.full(COUNT, -np.inf, np.float32), 0.5).any()


def test_degenerate_boxes_overlap_nothing():
    boxes = jnp.array([[5, 5, 5, 5], [5, 5, 5, 5], [9, 9, 2, 2]], jnp.float32)
    assert jitted(boxes, jnp.array([0.3, 0.2, 0.1]), 0.1).all()


def test_no_boxes():
    assert nms(jnp.zeros((0, 4)), jnp.zeros(0), 0.5).shape == (0,)


def test_a_batch_keeps_each_image_to_itself():
    cases = [clustered(seed) for seed in range(4)]
    boxes, scores = (np.stack([case[field] for case in cases]) for field in (0, 1))
    keep = jax.jit(jax.vmap(lambda b, s: nms(b, s, 0.3)))(boxes, scores)
    for row, (one, score, _) in zip(keep, cases, strict=True):
        np.testing.assert_array_equal(row, greedy_nms(one, score, 0.3))
