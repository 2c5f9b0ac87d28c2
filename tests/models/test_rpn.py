import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lga_jax.models.rpn import RPN, rpn_losses, sample_anchors, select_proposals
from lga_jax.structs import RPNOutputs, Samples, Targets

RULES = dict(pre_nms=4, post_nms=5, nms_iou=0.7, min_size=0.0)
HW = jnp.array([100.0, 100.0])
ANCHORS = [
    jnp.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [200, 0, 210, 10], [0, 50, 10, 60]]),
    jnp.array([[0.0, 0, 10, 10], [90, 90, 150, 150]]),
]


def select(scores, **changes):
    deltas = [jnp.zeros_like(a) for a in ANCHORS]
    return select_proposals([jnp.asarray(s, jnp.float32) for s in scores], deltas, ANCHORS, HW, **RULES | changes)


def test_by_hand():
    """Within a level the near-duplicate goes, across levels it stays; outside the image goes; clipped to the image."""
    rois = select([[5, 4, 3, 9, 1], [2, 1.5]])
    assert rois.valid.tolist() == [True, True, True, True, False]
    np.testing.assert_allclose(rois.scores, [5, 3, 2, 1.5, 0])
    wanted = [[0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 10], [90, 90, 100, 100], [0, 0, 0, 0]]
    np.testing.assert_allclose(rois.boxes, wanted, atol=1e-4)


def test_top_of_each_level_enters_and_top_of_all_leaves():
    rois = select([[5, 4, 3, 9, 1], [2, 1.5]], pre_nms=1, post_nms=1)
    np.testing.assert_allclose(rois.scores, [2])  # the best of level 0 lies outside the image


def test_scores_that_are_not_finite_are_dropped():
    rois = select([[np.nan, 4, 3, 2, 1], [np.inf, 1.5]])
    assert jnp.all(jnp.isfinite(rois.boxes)) and jnp.all(jnp.isfinite(rois.scores))
    assert 4.0 in rois.scores.tolist()


def test_min_size_drops_small_boxes():
    assert select([[5, 4, 3, 9, 1], [2, 1.5]], min_size=10.0).valid.sum() == 0


def test_head_shares_its_weights_over_levels():
    rpn = RPN(1, (4, 8), anchors={"aspect_ratios": (0.5, 1.0, 2.0)}, sampling={}, proposals={})
    level = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 6, 8)), jnp.float32)
    (objectness, deltas), variables = rpn.init_with_output(jax.random.key(0), [level, level], method="predict")
    assert objectness[0].shape == (2, 72) and deltas[0].shape == (2, 72, 4)
    np.testing.assert_array_equal(objectness[0], objectness[1])
    assert set(variables["params"]) == {"conv1", "objectness", "deltas"}


def test_sampled_anchors_overlap_what_they_matched():
    targets = Targets(
        boxes=jnp.array([[0.0, 0, 10, 11], [50, 50, 61, 60], [0, 0, 0, 0]]),
        labels=jnp.array([0, 1, 0]),
        valid=jnp.array([True, True, False]),
    )
    samples = sample_anchors(
        jax.random.key(0),
        ANCHORS[0],
        targets,
        num_samples=4,
        positive_fraction=0.5,
        positive_iou=0.7,
        negative_iou=0.3,
    )
    assert samples.positive.tolist() == [True, True, False, False]
    pairs = set(zip(samples.index[:2].tolist(), samples.matched[:2].tolist(), strict=True))
    assert pairs <= {(0, 0), (1, 0), (2, 1)}
    assert set(samples.index[2:].tolist()) == {3, 4}


OUTPUTS = RPNOutputs(
    anchors=jnp.array([[0.0, 0, 10, 10], [0, 0, 20, 20], [5, 5, 15, 15]]),
    objectness=jnp.zeros((1, 3)),
    deltas=jnp.zeros((1, 3, 4)),
    samples=Samples(
        index=jnp.array([[1, 2, 0, 0]]),
        positive=jnp.array([[True, False, False, False]]),
        valid=jnp.array([[True, True, False, False]]),
        matched=jnp.array([[1, 0, 0, 0]]),
    ),
)
TARGETS = Targets(
    boxes=jnp.array([[[0.0, 0, 10, 10], [0, 0, 20, 40]]]), labels=jnp.array([[1, 0]]), valid=jnp.array([[True, True]])
)
KINDS = ["l1", "giou", "diou", "ciou"]


def losses(kind="l1", beta=0.0, targets=TARGETS, **changes):
    """Four slots for samples, two of them filled; anchor 1 should become (0, 0, 20, 40)."""
    return rpn_losses(OUTPUTS._replace(**changes), targets, kind, beta)


def test_losses_by_hand():
    np.testing.assert_allclose(losses()["rpn_objectness"], 2 * np.log(2) / 4, rtol=1e-6)
    np.testing.assert_allclose(losses()["rpn_box"], (10 / 20 + np.log(2)) / 4, rtol=1e-6)  # dy and dh


def test_smooth_l1_below_its_transition_is_quadratic():
    np.testing.assert_allclose(losses(beta=1.0)["rpn_box"], 0.5 * (0.5**2 + np.log(2) ** 2) / 4, rtol=1e-6)


def test_an_iou_loss_compares_the_decoded_boxes():
    np.testing.assert_allclose(losses("giou")["rpn_box"], (1 - 20 / 40) / 4, rtol=1e-6)
    np.testing.assert_allclose(losses("diou")["rpn_box"], (1 - 20 / 40 + 10**2 / (20**2 + 40**2)) / 4, rtol=1e-6)
    assert losses("ciou")["rpn_box"] > losses("diou")["rpn_box"]  # the shapes differ too
    grown = jnp.zeros((1, 3, 4)).at[0, 1].set(jnp.array([0.0, 0.5, 0.0, np.log(2.0)]))  # exactly the object
    for kind in KINDS:
        np.testing.assert_allclose(losses(kind, deltas=grown)["rpn_box"], 0.0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_box_losses_reach_the_deltas_of_positive_anchors_alone(kind):
    @jax.jit
    def total(deltas):
        return losses(kind, deltas=deltas)["rpn_box"]

    deltas = 0.3 * jax.random.normal(jax.random.key(0), (1, 3, 4))
    if kind != "ciou":  # its gradient leaves out a factor on purpose
        check_grads(total, (deltas,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)
    gradient = jax.grad(total)(deltas)
    assert gradient[0, 1].any() and not gradient[0, 0].any() and not gradient[0, 2].any()


@pytest.mark.parametrize("kind", KINDS)
def test_without_objects_there_is_no_box_loss_and_its_gradient_is_zero(kind):
    none = OUTPUTS.samples._replace(positive=jnp.zeros((1, 4), bool), matched=jnp.zeros((1, 4), jnp.int32))
    empty = TARGETS._replace(boxes=jnp.zeros((1, 2, 4)), valid=jnp.zeros((1, 2), bool))
    loss, gradient = jax.value_and_grad(
        lambda deltas: losses(kind, targets=empty, samples=none, deltas=deltas)["rpn_box"]
    )(OUTPUTS.deltas)
    assert loss == 0 and not np.any(gradient)
