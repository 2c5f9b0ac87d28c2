from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from lga_jax.ops import boxes as ops
from tests.reference import boxes as reference

WEIGHTS = (10.0, 10.0, 5.0, 5.0)
EITHER_WAY = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
DEGENERATE = jnp.array([[5.0, 5.0, 5.0, 9.0], [3.0, 3.0, 3.0, 3.0], [0.0, 0.0, 0.0, 0.0], [9.0, 9.0, 2.0, 2.0]])


jitted_iou = jax.jit(ops.pairwise_iou)
jitted_encode = jax.jit(partial(ops.encode, weights=WEIGHTS))


def some_boxes(seed: int, count: int = 12) -> jax.Array:
    return jnp.asarray(reference.random_boxes(np.random.default_rng(seed), count, (60, 80)))


def all_finite(tree) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


# Pictures.


def test_areas_by_eye():
    assert ops.area(jnp.array([[0.0, 0.0, 2.0, 3.0], [1.0, 1.0, 1.0, 4.0], [4.0, 4.0, 2.0, 2.0]])).tolist() == [6, 0, 0]


def test_overlap_by_eye():
    #  a a .        . . .
    #  a X b        two 2x2 squares share one of seven cells
    #  . b b
    a, b = (
        jnp.array([[0.0, 0.0, 2.0, 2.0]]),
        jnp.array([[1.0, 1.0, 3.0, 3.0], [2.0, 0.0, 4.0, 2.0], [0.0, 0.0, 2.0, 1.0]]),
    )
    np.testing.assert_allclose(ops.pairwise_iou(a, b), [[1 / 7, 0, 1 / 2]], rtol=1e-6)


def test_deltas_by_eye():
    anchor, box = jnp.array([[10.0, 10.0, 30.0, 20.0]]), jnp.array([[20.0, 5.0, 60.0, 25.0]])
    deltas = ops.encode(box, anchor, (1.0, 1.0, 1.0, 1.0))  # moved one width to the right, twice as wide and high
    np.testing.assert_allclose(deltas, [[1, 0, np.log(2), np.log(2)]], atol=1e-6)


def test_clip_moves_corners_onto_the_border():
    box = jnp.array([[-3.0, 5.0, 99.0, 50.0], [50.0, 50.0, 60.0, 60.0]])
    assert ops.clip(box, jnp.array([20.0, 30.0])).tolist() == [[0, 5, 30, 20], [30, 20, 30, 20]]


def test_smooth_l1_by_eye():
    difference = jnp.array([-2.0, -0.5, 0.0, 0.5, 1.0])
    np.testing.assert_allclose(ops.smooth_l1(difference, 1.0), [1.5, 0.125, 0, 0.125, 0.5])
    np.testing.assert_allclose(ops.smooth_l1(difference, 0.0), [2, 0.5, 0, 0.5, 1])


# Oracles.


@EITHER_WAY
def test_iou_equals_the_reference(wrap):
    boxes, others = some_boxes(0), jnp.concatenate([some_boxes(1, 6), some_boxes(0, 2)])
    np.testing.assert_allclose(wrap(ops.pairwise_iou)(boxes, others), reference.pairwise_iou(boxes, others), atol=1e-6)


@EITHER_WAY
def test_coder_equals_the_reference(wrap):
    boxes, anchors = some_boxes(2), some_boxes(3)
    deltas = wrap(lambda b, a: ops.encode(b, a, WEIGHTS))(boxes, anchors)
    expected = [reference.encode(box, anchor, WEIGHTS) for box, anchor in zip(boxes, anchors, strict=True)]
    np.testing.assert_allclose(deltas, expected, rtol=1e-5, atol=1e-5)

    deltas = jnp.asarray(np.random.default_rng(4).normal(0, 8, (12, 4)), jnp.float32)
    decoded = wrap(lambda d, a: ops.decode(d, a, WEIGHTS))(deltas, anchors)
    expected = [reference.decode(d, a, WEIGHTS, 1000 / 16) for d, a in zip(deltas, anchors, strict=True)]
    np.testing.assert_allclose(decoded, expected, rtol=1e-4, atol=1e-3)


# Laws.


def test_decode_inverts_encode():
    boxes, anchors = some_boxes(5), some_boxes(6)
    np.testing.assert_allclose(ops.decode(ops.encode(boxes, anchors, WEIGHTS), anchors, WEIGHTS), boxes, atol=1e-3)


@given(st.integers(0, 2**32 - 1), st.integers(-50, 50), st.integers(-50, 50))
def test_overlap_and_deltas_do_not_depend_on_where_things_are(seed, dx, dy):
    boxes, others = some_boxes(seed), some_boxes(seed + 1)
    shift = jnp.array([dx, dy, dx, dy], jnp.float32)
    np.testing.assert_allclose(jitted_iou(boxes + shift, others + shift), jitted_iou(boxes, others), atol=1e-4)
    np.testing.assert_allclose(
        jitted_encode(boxes + shift, others + shift), jitted_encode(boxes, others), rtol=1e-3, atol=1e-3
    )


def test_overlap_and_deltas_do_not_depend_on_scale():
    boxes, others = some_boxes(7), some_boxes(8)
    np.testing.assert_allclose(ops.pairwise_iou(boxes * 4, others * 4), ops.pairwise_iou(boxes, others), atol=1e-6)
    np.testing.assert_allclose(
        ops.encode(boxes * 4, others * 4, WEIGHTS), ops.encode(boxes, others, WEIGHTS), rtol=1e-5, atol=1e-5
    )


def test_overlap_is_symmetric_and_one_with_itself():
    boxes = some_boxes(9)
    overlap = ops.pairwise_iou(boxes, boxes)
    np.testing.assert_array_equal(overlap, overlap.T)
    np.testing.assert_allclose(jnp.diag(overlap), 1.0, atol=1e-6)


# Edges.


def test_no_boxes():
    none, some = jnp.zeros((0, 4)), some_boxes(10, 3)
    assert ops.pairwise_iou(none, some).shape == (0, 3)
    assert ops.pairwise_iou(some, none).shape == (3, 0)
    assert ops.encode(none, none, WEIGHTS).shape == (0, 4)


def test_empty_boxes_overlap_nothing_and_have_finite_gradients():
    assert not ops.pairwise_iou(DEGENERATE, DEGENERATE).any()
    assert all_finite(jax.jit(jax.grad(lambda b: ops.pairwise_iou(b, b).sum()))(DEGENERATE))


def test_empty_boxes_have_finite_deltas_and_gradients():
    value_and_grads = jax.jit(jax.value_and_grad(lambda b, a: ops.encode(b, a, WEIGHTS).sum(), argnums=(0, 1)))
    for anchors in (some_boxes(11, 4), DEGENERATE):
        assert all_finite(value_and_grads(DEGENERATE, anchors))


def test_growth_is_bounded_forward_and_backward():
    anchors, deltas = jnp.array([[0.0, 0.0, 16.0, 16.0]]), jnp.array([[0.0, 0.0, 1e30, 700.0]])
    decoded = ops.decode(deltas, anchors, WEIGHTS)
    np.testing.assert_allclose(decoded, [[8 - 500, 8 - 500, 8 + 500, 8 + 500]], rtol=1e-5)
    assert all_finite(jax.jit(jax.grad(lambda d: ops.decode(d, anchors, WEIGHTS).sum()))(deltas))


def test_bfloat16_deltas_give_float32_boxes():
    assert ops.decode(jnp.zeros((1, 4), jnp.bfloat16), jnp.array([[0.0, 0.0, 1.0, 1.0]]), WEIGHTS).dtype == jnp.float32


# Gradients.


def test_gradients_are_the_derivatives():
    # Sides near 1, where float32 differences are good, and overlaps away from the kinks where corners coincide.
    boxes = jnp.array([[0.0, 0.0, 2.0, 3.0], [1.0, 0.5, 2.5, 2.0]])
    anchors = boxes + jnp.array([0.2, 0.3, 0.5, -0.2])
    check_grads(jax.jit(ops.pairwise_iou), (boxes, anchors), order=1, modes=["rev"], atol=2e-2)
    check_grads(jax.jit(lambda b, a: ops.encode(b, a, WEIGHTS)), (boxes, anchors), order=1, modes=["rev"], rtol=2e-2)
    deltas = ops.encode(boxes, anchors, WEIGHTS)
    check_grads(jax.jit(lambda d: ops.decode(d, anchors, WEIGHTS)), (deltas,), order=1, modes=["rev"], rtol=2e-2)
    for beta in (0.0, 1.0 / 9.0):
        smooth_l1 = jax.jit(partial(ops.smooth_l1, beta=beta))
        check_grads(smooth_l1, (jnp.array([-1.0, -0.05, 0.03, 2.0]),), order=1, modes=["rev"], rtol=2e-2)


def test_smooth_l1_has_a_finite_gradient_at_zero():
    for beta in (0.0, 0.1):
        assert all_finite(jax.grad(lambda x, beta=beta: ops.smooth_l1(x, beta).sum())(jnp.zeros(2)))
