"""One RoI stage, by hand; that several make a cascade is in tests/models/test_detector.py."""

import jax
import jax.numpy as jnp
import numpy as np

from lga_jax.models.roi.attention.none import NoAttention
from lga_jax.models.roi.box_head import BoxHead
from lga_jax.models.roi.crops import Levels
from lga_jax.models.roi.losses import roi_losses
from lga_jax.models.roi.stage import CODER_WEIGHTS, RoIStage, sample_rois
from lga_jax.ops.boxes import encode
from lga_jax.structs import RoIs, RoITargets, StageOutputs, Targets

RULE = dict(
    roi_class="cross_entropy",
    focal_gamma=2.0,
    label_smoothing=0.0,
    class_weights=(),
    federated=True,
    roi_box="l1",
    roi_box_beta=0.0,
    guide_rois="foreground",
)


def stage(**changes):
    head = BoxHead(
        num_convs=0, num_fcs=1, hidden=8, norm="none", dense_init="detectron2", num_classes=2, class_agnostic=False
    )
    fields = dict(
        attention=NoAttention(),
        box_head=head,
        num_classes=2,
        strides=(4, 8),
        sampling=dict(num_samples=4, positive_fraction=0.5, positive_iou=0.5),
        roi_align=dict(crop_size=2, sampling_ratio=1, aligned=True),
    )
    return RoIStage(**fields | changes)


def outputs(**changes):
    """Two RoIs: the first should become (0, 0, 10, 20), the second is background (class 2 of 2)."""
    rois = RoIs(jnp.array([[[0.0, 0, 10, 10], [0, 0, 20, 20]]]), jnp.zeros((1, 2)), jnp.array([[True, True]]))
    return StageOutputs(
        rois=rois,
        targets=RoITargets(
            labels=jnp.array([[1, 2]]),
            boxes=jnp.array([[[0.0, 0, 10, 20], [0, 0, 1, 1]]]),
            matched=jnp.array([[0, 0]]),
            valid=rois.valid,
        ),
        gaussians=None,
        guide_logits=None,
        class_logits=jnp.zeros((1, 2, 3)),
        box_deltas=jnp.zeros((1, 2, 2, 4)),
        coder_weights=jnp.asarray(CODER_WEIGHTS),
    )._replace(**changes)


def test_the_guide_compares_background_with_the_verified_classes_only():
    truth = outputs().targets._replace(verified=jnp.array([[False, True]]))
    answers = outputs(targets=truth, guide_logits=jnp.zeros((1, 2, 4, 3)))
    found = stage().losses(answers, RULE | dict(guide_rois="all"))["guide"]
    np.testing.assert_allclose(found, (np.log(3) + np.log(2)) / 2, rtol=1e-6)


def test_the_verified_classes_stand_in_the_targets_of_the_stage():
    verified = jnp.array([True, False])
    targets = Targets(jnp.array([[0.0, 0, 9, 10]]), jnp.array([1]), jnp.array([True]), verified=verified)
    rois = RoIs(jnp.zeros((3, 4)), jnp.zeros(3), jnp.zeros(3, bool))
    rule = dict(num_classes=2, num_samples=4, positive_fraction=0.5, positive_iou=0.5)
    np.testing.assert_array_equal(sample_rois(jax.random.key(0), rois, targets, **rule)[1].verified, verified)


def test_a_guide_is_a_term_of_the_stage_only_where_there_is_one():
    rule = RULE | dict(guide_rois="all")
    assert set(stage().losses(outputs(), rule)) == {"roi_class", "roi_box"}
    terms = stage().losses(outputs(guide_logits=jnp.zeros((1, 2, 4, 3))), rule)
    np.testing.assert_allclose(terms["guide"], np.log(3), rtol=1e-6)


def test_refined_boxes_are_those_of_the_best_foreground_class_inside_the_image():
    wanted = jnp.array([[[2.0, 3, 12, 9], [10, 10, 90, 30]]])
    deltas = encode(wanted, outputs().rois.boxes, CODER_WEIGHTS)
    given = outputs(
        class_logits=jnp.array([[[0.0, 1.0, 9.0], [1.0, 0.0, 9.0]]]),  # background is best, and no box of it exists
        box_deltas=outputs().box_deltas.at[0, 0, 1].set(deltas[0, 0]).at[0, 1, 0].set(deltas[0, 1]),
    )
    rois = stage().refined(given, jnp.array([[25.0, 40.0]]))
    np.testing.assert_allclose(rois.boxes, [[[2, 3, 12, 9], [10, 10, 40, 25]]], atol=1e-4)
    assert rois.valid.all()


def test_class_agnostic_deltas_are_those_of_every_class():
    one_box = outputs().box_deltas[:, :, :1].at[0, 0, 0].set(jnp.arange(4.0))
    every_class = jnp.repeat(one_box, 2, axis=2)
    logits = jnp.array([[[0.0, 1.0, 9.0], [1.0, 0.0, 9.0]]])
    agnostic, specific = (outputs(box_deltas=deltas, class_logits=logits) for deltas in (one_box, every_class))
    assert roi_losses(agnostic, RULE) == roi_losses(specific, RULE)
    image_hw = jnp.array([[40.0, 40.0]])
    np.testing.assert_array_equal(stage().refined(agnostic, image_hw).boxes, stage().refined(specific, image_hw).boxes)


def test_refined_boxes_without_area_and_invalid_rois_are_zero_and_invalid():
    rois = outputs().rois._replace(valid=jnp.array([[True, False]]))
    beyond = outputs().box_deltas.at[0, 0, :, 0].set(1000.0)  # a hundred widths to the right
    refined = stage().refined(outputs(rois=rois, box_deltas=beyond), jnp.array([[40.0, 40.0]]))
    assert not refined.valid.any() and not refined.boxes.any()


def test_no_gradient_returns_through_refined_boxes():
    def sums(deltas):
        return stage().refined(outputs(box_deltas=deltas), jnp.array([[40.0, 40.0]])).boxes.sum()

    assert not jax.grad(sums)(outputs().box_deltas).any()


def test_the_stage_answers_for_all_rois_or_for_a_sample_of_them_and_the_true_boxes():
    rng = np.random.default_rng(0)
    maps = [jnp.asarray(rng.normal(size=(1, side, side, 3)), jnp.float32) for side in (8, 4)]
    levels = Levels(maps)
    rois = outputs().rois
    found, variables = stage().init_with_output(jax.random.key(0), levels, rois, None, None)
    assert found.targets is None and found.class_logits.shape == (1, 2, 3) and found.box_deltas.shape == (1, 2, 2, 4)
    np.testing.assert_array_equal(found.rois.boxes, rois.boxes)
    targets = Targets(jnp.array([[[0.0, 0, 9, 10]]]), jnp.array([[1]]), jnp.array([[True]]))
    sampled = stage().apply(variables, levels, rois, targets, jax.random.split(jax.random.key(1), 1))
    assert sampled.targets.labels.tolist() == [[1, 1, 2, 2]]
    assert sampled.rois.valid.tolist() == [[True, True, True, False]]
    assert sampled.class_logits.shape == (1, 4, 3)


def test_sampled_rois_take_labels_and_boxes_from_their_objects():
    proposals = RoIs(
        boxes=jnp.array([[0.0, 0, 10, 10], [70, 70, 90, 90], [0, 0, 0, 0]]),
        scores=jnp.array([1.0, 2.0, 0.0]),
        valid=jnp.array([True, True, False]),
    )
    targets = Targets(
        boxes=jnp.array([[0.0, 0, 10, 12], [0, 0, 0, 0]]), labels=jnp.array([1, 0]), valid=jnp.array([True, False])
    )
    rois, truth = sample_rois(
        jax.random.key(0), proposals, targets, num_classes=3, num_samples=8, positive_fraction=0.5, positive_iou=0.5
    )
    assert truth.valid.tolist() == [True, True, True] + [False] * 5  # proposal 0, the object itself; proposal 1
    assert truth.labels.tolist() == [1, 1, 3] + [3] * 5
    assert {tuple(b) for b in rois.boxes[:2].tolist()} == {(0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 12.0)}
    np.testing.assert_array_equal(truth.boxes[:2], [[0, 0, 10, 12]] * 2)
    assert rois.boxes[2].tolist() == [70, 70, 90, 90]
    assert not rois.boxes[3:].any()
