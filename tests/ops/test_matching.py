import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.ops.matching import match
from tests.ops.platforms import use_forms_of
from tests.reference import matching as reference
from tests.reference.boxes import random_boxes

RULES = dict(positive_iou=0.5, negative_iou=0.3)
jitted = jax.jit(match, static_argnames=("positive_iou", "negative_iou", "low_quality"))


def run(boxes, truth, valid=None, function=jitted, **rules):
    rules = {**RULES, "low_quality": True, **rules}
    boxes, truth = (jnp.asarray(v, jnp.float32).reshape(-1, 4) for v in (boxes, truth))
    valid = jnp.ones(len(truth), bool) if valid is None else jnp.asarray(valid, bool)
    return [np.asarray(v) for v in function(boxes, truth, valid, **rules)]


def assert_same(one, other):
    """Overlaps up to rounding, which differs between programs; everything else exactly."""
    for name, left, right in zip(("matched", "iou", "positive", "negative"), one, other, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6 if name == "iou" else 0, err_msg=name)


def test_by_eye():
    truth = [[0, 0, 10, 10], [20, 0, 30, 10]]
    boxes = [
        [0, 0, 10, 9],  # 0.9 with the first: positive
        [20, 0, 30, 4],  # 0.4 with the second: between the thresholds, ignored
        [0, 0, 10, 2],  # 0.2: negative
        [50, 50, 60, 60],  # nothing: negative
    ]
    matched, iou, positive, negative = run(boxes, truth, low_quality=False)
    assert matched[:3].tolist() == [0, 1, 0]
    np.testing.assert_allclose(iou, [0.9, 0.4, 0.2, 0.0], rtol=1e-6)
    assert positive.tolist() == [True, False, False, False]
    assert negative.tolist() == [False, False, True, True]


def test_low_quality_gives_every_object_its_best_boxes_ties_included():
    truth = [[0, 0, 10, 10]]
    boxes = [[0, 0, 10, 2], [0, 8, 10, 10], [0, 0, 10, 1]]  # 0.2, 0.2, 0.1
    assert run(boxes, truth, low_quality=True)[2].tolist() == [True, True, False]
    assert run(boxes, truth, low_quality=False)[2].tolist() == [False, False, False]
    assert run(boxes, truth, low_quality=True)[3].tolist() == [False, False, True]


def test_low_quality_keeps_the_slot_that_the_box_itself_overlaps_most():
    # The box is the best one of both objects, and covers more of the first.
    matched, _, positive, _ = run([[0, 0, 10, 4]], [[0, 0, 10, 10], [0, 3, 10, 20]])
    assert (matched.tolist(), positive.tolist()) == ([0], [True])


def test_an_object_that_nothing_touches_makes_nothing_positive():
    assert not run([[0, 0, 10, 10]], [[50, 50, 60, 60]])[2].any()


def test_equal_overlap_goes_to_the_earlier_slot_across_chunks_too():
    truth = np.tile(np.array([[0, 0, 10, 10]]), (40, 1))
    assert run([[0, 0, 10, 8]], truth)[0].tolist() == [0]


@pytest.mark.parametrize(("function", "seeds"), [(match, 1), (jitted, 5)], ids=["eager", "jit"])
@pytest.mark.parametrize("low_quality", [False, True])
def test_equals_the_reference(function, seeds, low_quality):
    # Small integer boxes make many exact ties; 40 slots are more than one chunk.
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        boxes, truth = random_boxes(rng, 60, (8, 8), integer=True), random_boxes(rng, 40, (8, 8), integer=True)
        valid = rng.random(40) < 0.2
        got = run(boxes, truth, valid, function, low_quality=low_quality)
        expected = reference.match(boxes, truth, valid, **RULES, low_quality=low_quality)
        assert_same(got, expected)


@pytest.mark.parametrize("low_quality", [False, True])
def test_the_form_of_other_platforms_equals_the_reference(low_quality, monkeypatch):
    use_forms_of("cuda", monkeypatch)
    recomputed = jax.jit(lambda *args, **rules: match(*args, **rules), static_argnames=tuple(RULES) + ("low_quality",))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        boxes, truth = random_boxes(rng, 60, (8, 8), integer=True), random_boxes(rng, 40, (8, 8), integer=True)
        valid = rng.random(40) < 0.2 * (seed > 0)
        got = run(boxes, truth, valid, recomputed, low_quality=low_quality)
        assert_same(got, reference.match(boxes, truth, valid, **RULES, low_quality=low_quality))
    assert not run(boxes, np.zeros((0, 4)), [], recomputed, low_quality=low_quality)[2].any()


def test_boxes_may_be_permuted():
    rng = np.random.default_rng(6)
    boxes, truth = random_boxes(rng, 60, (30, 30)), random_boxes(rng, 40, (30, 30))
    order = rng.permutation(60)
    assert_same(run(boxes[order], truth), [value[order] for value in run(boxes, truth)])


def test_padding_slots_change_nothing():
    rng = np.random.default_rng(7)
    boxes, truth = random_boxes(rng, 60, (30, 30)), random_boxes(rng, 40, (30, 30))
    short = run(boxes, truth[:5])
    long = run(boxes, np.concatenate([truth[:5], np.zeros((35, 4))]), np.arange(40) < 5)
    assert_same(short, long)


@pytest.mark.parametrize("slots", [0, 1, 40])
def test_without_ground_truth_everything_is_negative(slots):
    _, iou, positive, negative = run(
        random_boxes(np.random.default_rng(8), 60, (30, 30)), np.zeros((slots, 4)), [False] * slots
    )
    assert not iou.any()
    assert not positive.any()
    assert negative.all()


def test_degenerate_objects_and_boxes_match_nothing():
    _, iou, positive, _ = run([[0, 0, 10, 10], [5, 5, 5, 5]], [[5, 5, 5, 5], [3, 0, 3, 9]])
    assert not iou.any()
    assert not positive.any()


def test_the_overlap_has_a_finite_gradient():
    boxes = jnp.array([[0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 5.0, 5.0]])
    truth, valid = jnp.array([[0.0, 0.0, 8.0, 9.0], [0.0, 0.0, 0.0, 0.0]]), jnp.array([True, False])
    total = jax.grad(lambda b, t: match(b, t, valid, **RULES, low_quality=True).iou.sum(), argnums=(0, 1))
    grads = jax.jit(total)(boxes, truth)
    assert all(bool(jnp.isfinite(grad).all()) for grad in grads)
