"""Every term on outputs made by hand, small enough to compute on paper."""

import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.errors import UserError
from lga_jax.models.losses import detection_losses, guide_loss
from lga_jax.structs import Outputs, RoIs, RoITargets, Samples, Targets

ANCHORS = jnp.array([[0.0, 0, 10, 10], [0, 0, 20, 20], [5, 5, 15, 15]])
TARGETS = Targets(
    boxes=jnp.array([[[0.0, 0, 10, 10], [0, 0, 20, 40]]]),
    labels=jnp.array([[1, 0]]),
    valid=jnp.array([[True, True]]),
)


def outputs(**changes):
    rois = RoIs(boxes=ANCHORS[None, :2], scores=jnp.zeros((1, 2)), valid=jnp.array([[True, True]]))
    return Outputs(
        anchors=ANCHORS,
        objectness=jnp.zeros((1, 3)),
        anchor_deltas=jnp.zeros((1, 3, 4)),
        anchor_samples=Samples(
            index=jnp.array([[1, 2, 0, 0]]),
            positive=jnp.array([[True, False, False, False]]),
            valid=jnp.array([[True, True, False, False]]),
            matched=jnp.array([[1, 0, 0, 0]]),
        ),
        rois=rois,
        roi_targets=RoITargets(
            labels=jnp.array([[1, 2]]), boxes=jnp.array([[[0.0, 0, 10, 20], [0, 0, 1, 1]]]), valid=rois.valid
        ),
        gaussians=None,
        guide_logits=None,
        class_logits=jnp.zeros((1, 2, 3)),
        box_deltas=jnp.zeros((1, 2, 2, 4)),
    )._replace(**changes)


def losses(outs, beta=0.0):
    return detection_losses(outs, TARGETS, rpn_box_beta=beta, roi_box_beta=beta, guide_weight=0.5, guide_rois="all")


def test_by_hand():
    terms = losses(outputs())
    # Anchor 1 should become (0, 0, 20, 40): dy = 10/20, dh = log 2. Four slots, two of them filled.
    np.testing.assert_allclose(terms["rpn_objectness"], 2 * np.log(2) / 4, rtol=1e-6)
    np.testing.assert_allclose(terms["rpn_box"], (0.5 + np.log(2)) / 4, rtol=1e-6)
    # RoI 0 should become (0, 0, 10, 20), with weights 10 and 5; RoI 1 is background (class 2 of 2).
    np.testing.assert_allclose(terms["roi_class"], np.log(3), rtol=1e-6)
    np.testing.assert_allclose(terms["roi_box"], (10 * 0.5 + 5 * np.log(2)) / 2, rtol=1e-6)
    np.testing.assert_allclose(terms["total"], sum(v for k, v in terms.items() if k != "total"), rtol=1e-6)
    assert "guide" not in terms


def test_smooth_l1_below_its_transition_is_quadratic():
    terms = losses(outputs(), beta=1.0)
    np.testing.assert_allclose(terms["rpn_box"], 0.5 * (0.5**2 + np.log(2) ** 2) / 4, rtol=1e-6)


def test_only_the_deltas_of_the_true_class_count():
    other_class = outputs().box_deltas.at[0, 0, 0].set(7.0)
    true_class = outputs().box_deltas.at[0, 0, 1].set(7.0)
    base = losses(outputs())["roi_box"]
    assert losses(outputs(box_deltas=other_class))["roi_box"] == base
    assert losses(outputs(box_deltas=true_class))["roi_box"] != base


def test_slots_that_are_not_valid_contribute_nothing():
    truth = outputs().roi_targets._replace(valid=jnp.array([[True, False]]))
    logits = jnp.zeros((1, 2, 3)).at[0, 1].set(jnp.array([50.0, 0.0, 0.0]))
    terms = losses(outputs(roi_targets=truth, class_logits=logits))
    np.testing.assert_allclose(terms["roi_class"], np.log(3) / 2, rtol=1e-6)


def test_guide_is_the_mean_over_masks_and_rois():
    truth = outputs().roi_targets
    logits = jnp.zeros((1, 2, 4, 3)).at[0, 0, 0, 1].set(100.0)  # one of eight answers is certain and right
    np.testing.assert_allclose(guide_loss(logits, truth, "all"), 7 / 8 * np.log(3), rtol=1e-5)
    terms = losses(outputs(guide_logits=logits))
    assert terms["total"] == pytest.approx(
        float(sum(v for k, v in terms.items() if k not in ("total", "guide")) + 0.5 * terms["guide"])
    )


def test_guide_on_foreground_leaves_background_rois_out():
    truth = outputs().roi_targets  # RoI 0 is an object, RoI 1 background
    logits = jnp.zeros((1, 2, 4, 3))
    np.testing.assert_allclose(guide_loss(logits, truth, "foreground"), np.log(3) / 2, rtol=1e-5)
    changed = logits.at[0, 1].set(jnp.array([50.0, 0.0, 0.0]))
    assert guide_loss(changed, truth, "foreground") == guide_loss(logits, truth, "foreground")
    assert guide_loss(changed, truth, "all") > guide_loss(logits, truth, "all")


def test_guide_on_unknown_rois_is_refused():
    with pytest.raises(UserError, match=r"losses.guide_rois: expected 'all' or 'foreground', found 'some'"):
        guide_loss(jnp.zeros((1, 2, 4, 3)), outputs().roi_targets, "some")
