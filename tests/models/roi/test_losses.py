"""The losses of a RoI head, by hand, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lga_jax.models.roi.losses import box_loss, class_loss, guide_loss, roi_losses
from lga_jax.models.roi.stage import CODER_WEIGHTS
from lga_jax.ops.boxes import decode
from lga_jax.ops.iou_losses import iou_loss
from tests.models.roi.test_stage import RULE, outputs


def test_losses_by_hand():
    terms = roi_losses(outputs(), RULE)
    np.testing.assert_allclose(terms["roi_class"], np.log(3), rtol=1e-6)
    np.testing.assert_allclose(terms["roi_box"], (10 * 0.5 + 5 * np.log(2)) / 2, rtol=1e-6)
    finer = roi_losses(outputs(coder_weights=jnp.array([20.0, 20, 10, 10])), RULE)
    np.testing.assert_allclose(finer["roi_box"], 2 * terms["roi_box"], rtol=1e-6)


def test_only_the_deltas_of_the_true_class_count():
    other_class = outputs().box_deltas.at[0, 0, 0].set(7.0)
    true_class = outputs().box_deltas.at[0, 0, 1].set(7.0)
    base = roi_losses(outputs(), RULE)["roi_box"]
    assert roi_losses(outputs(box_deltas=other_class), RULE)["roi_box"] == base
    assert roi_losses(outputs(box_deltas=true_class), RULE)["roi_box"] != base


def test_slots_that_are_not_valid_contribute_nothing():
    truth = outputs().targets._replace(valid=jnp.array([[True, False]]))
    logits = jnp.zeros((1, 2, 3)).at[0, 1].set(jnp.array([50.0, 0.0, 0.0]))
    terms = roi_losses(outputs(targets=truth, class_logits=logits), RULE)
    np.testing.assert_allclose(terms["roi_class"], np.log(3) / 2, rtol=1e-6)


def test_guide_is_the_mean_over_masks_and_rois():
    truth = outputs().targets
    logits = jnp.zeros((1, 2, 4, 3)).at[0, 0, 0, 1].set(100.0)  # one of eight answers is certain and right
    np.testing.assert_allclose(guide_loss(logits, truth, "all"), 7 / 8 * np.log(3), rtol=1e-5)


def test_guide_on_foreground_leaves_background_rois_out():
    truth = outputs().targets  # RoI 0 is an object, RoI 1 background
    logits = jnp.zeros((1, 2, 4, 3))
    np.testing.assert_allclose(guide_loss(logits, truth, "foreground"), np.log(3) / 2, rtol=1e-5)
    changed = logits.at[0, 1].set(jnp.array([50.0, 0.0, 0.0]))
    assert guide_loss(changed, truth, "foreground") == guide_loss(logits, truth, "foreground")
    assert guide_loss(changed, truth, "all") > guide_loss(logits, truth, "all")


def test_the_transition_of_the_box_loss_may_be_an_array():
    found = outputs(box_deltas=jnp.full((1, 2, 2, 4), 0.2))
    for beta in (0.1, 1.0, 9.0):
        expected = box_loss(found, kind="l1", beta=beta)
        np.testing.assert_array_equal(box_loss(found, kind="l1", beta=jnp.float32(beta)), expected)
    assert (box_loss(found, kind="l1", beta=9.0) < box_loss(found, kind="l1", beta=0.1))[0, 0]


def verified_outputs():
    """RoI 0 is an object of class 1, RoI 1 background. Only class 1 of two is verified in the image."""
    truth = outputs().targets._replace(verified=jnp.array([[False, True]]))
    logits = jnp.array([[[0.5, 1.0, -1.0], [2.0, 1.0, 0.0]]])
    return outputs(targets=truth, class_logits=logits)


def test_background_is_compared_with_the_verified_classes_only():
    found = roi_losses(verified_outputs(), RULE)["roi_class"]
    of_object = np.log(np.exp([0.5, 1.0, -1.0]).sum()) - 1.0  # all classes
    of_background = np.log(np.exp([1.0, 0.0]).sum()) - 0.0  # class 1 and background
    np.testing.assert_allclose(found, (of_object + of_background) / 2, rtol=1e-6)
    plain = roi_losses(verified_outputs(), RULE | dict(federated=False))["roi_class"]
    np.testing.assert_allclose(plain, (of_object + np.log(np.exp([2.0, 1.0, 0.0]).sum())) / 2, rtol=1e-6)


@pytest.mark.parametrize("changes", [{}, dict(label_smoothing=0.1), dict(roi_class="focal")])
def test_a_class_that_is_not_verified_gets_no_gradient_from_background(changes):
    def loss(logits):
        return roi_losses(verified_outputs()._replace(class_logits=logits), RULE | changes)["roi_class"]

    gradient = jax.grad(loss)(verified_outputs().class_logits)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[0, 1] == 0, [True, False, False])
    assert (gradient[0, 0] != 0).all()


def test_an_image_without_verified_classes_teaches_nothing_about_background():
    truth = outputs().targets._replace(verified=jnp.zeros((1, 2), bool))
    logits = verified_outputs().class_logits
    gradient = jax.grad(lambda x: roi_losses(outputs(targets=truth, class_logits=x), RULE)["roi_class"])(logits)
    assert (gradient[0, 1] == 0).all() and (gradient[0, 0] != 0).all()


LOGITS = jnp.array([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0], [0.0, 0.0, 3.0]])  # two classes and background
LABELS = jnp.array([0, 0, 2])


def classes(logits=LOGITS, **changes):
    rule = dict(kind="cross_entropy", focal_gamma=2.0, label_smoothing=0.0, class_weights=())
    return class_loss(logits, LABELS, **rule | changes)


def test_class_losses_by_hand():
    probability = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    true = probability[np.arange(3), LABELS]
    np.testing.assert_allclose(classes(), -np.log(true), rtol=1e-5)
    np.testing.assert_allclose(classes(kind="focal", focal_gamma=1.5), (1 - true) ** 1.5 * -np.log(true), rtol=1e-4)
    np.testing.assert_allclose(classes(class_weights=(3.0, 0.0)), [3, 3, 1] * -np.log(true), rtol=1e-5)
    wanted = 0.9 * np.eye(3)[LABELS] + 0.1 / 3
    np.testing.assert_allclose(classes(label_smoothing=0.1), -(wanted * np.log(probability)).sum(axis=1), rtol=1e-5)


def test_a_focal_loss_without_gamma_is_cross_entropy():
    np.testing.assert_allclose(classes(kind="focal", focal_gamma=0.0), classes(), rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(kind="focal"),
        dict(kind="focal", focal_gamma=0.5, label_smoothing=0.1),
        dict(label_smoothing=0.1),
        dict(class_weights=(2.0, 0.5)),
    ],
)
def test_gradients_of_class_losses(changes):
    loss = jax.jit(lambda logits: classes(logits, **changes).sum())
    check_grads(loss, (LOGITS,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)
    assert np.isfinite(jax.grad(loss)(100 * LOGITS)).all()  # probabilities of 0 and 1


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_an_iou_loss_compares_the_decoded_boxes(kind):
    given = outputs(box_deltas=jnp.full((1, 2, 2, 4), 0.3))
    boxes = decode(jnp.full((1, 2, 4), 0.3), given.rois.boxes, CODER_WEIGHTS)
    np.testing.assert_allclose(box_loss(given, kind=kind, beta=0.0), iou_loss(boxes, given.targets.boxes, kind))
    one = roi_losses(given, RULE | dict(roi_box=kind))["roi_box"]
    np.testing.assert_allclose(one, box_loss(given, kind=kind, beta=0.0)[0, 0] / 2)  # one of two RoIs is an object


@pytest.mark.parametrize("kind", ["l1", "giou", "diou", "ciou"])
def test_gradients_of_box_losses_reach_the_deltas_of_the_true_class_alone(kind):
    @jax.jit
    def total(deltas):
        return roi_losses(outputs(box_deltas=deltas), RULE | dict(roi_box=kind))["roi_box"]

    deltas = 0.3 * jax.random.normal(jax.random.key(0), (1, 2, 2, 4))
    if kind != "ciou":  # its gradient leaves out a factor on purpose
        check_grads(total, (deltas,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)
    gradient = jax.grad(total)(deltas)
    assert (gradient[0, 0, 1] != 0).any() and not gradient[0, 0, 0].any() and not gradient[0, 1].any()


@pytest.mark.parametrize("kind", ["l1", "giou", "diou", "ciou"])
def test_padded_slots_have_no_loss_and_finite_gradients(kind):
    empty = outputs()
    zeros = jnp.zeros((1, 2, 4))
    empty = empty._replace(
        rois=empty.rois._replace(boxes=zeros),
        targets=empty.targets._replace(boxes=zeros, valid=jnp.zeros((1, 2), bool)),
    )
    loss, gradient = jax.value_and_grad(
        lambda deltas: roi_losses(empty._replace(box_deltas=deltas), RULE | dict(roi_box=kind))["roi_box"]
    )(empty.box_deltas)
    assert loss == 0 and not np.any(gradient)
