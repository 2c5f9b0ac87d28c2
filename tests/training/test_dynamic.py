"""Dynamic R-CNN's two values, against a slow reference and by hand; over devices, and through a checkpoint."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lga_jax.checkpoints.write import Checkpoints
from lga_jax.models.build import build_detector, init_variables
from lga_jax.ops.boxes import encode
from lga_jax.recipe import load
from lga_jax.structs import RoIs, RoITargets, StageOutputs, Targets
from lga_jax.training.dynamic import DynamicRule, DynamicState, Seen, dynamic_rule, follow, initial_values, look
from lga_jax.training.step import create_state, make_train_step
from tests.checkpoints.saving import manifest_of, state_of
from tests.models import tiny
from tests.training.test_step import LOSSES, make_batch

RULE = DynamicRule(window=3, iou_rank=2, error_rank=2, lowest_iou=0.4, highest_beta=1.0)
WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def random_stage(rng, num_images=3, num_proposals=6, num_rois=5):
    """Outputs of a stage with one class; the last image has no object, and some slots of the others are unused."""
    corners = rng.uniform(0, 50, (2, num_images, num_rois, 2))
    boxes, truth = (np.concatenate([c, c + rng.uniform(5, 40, c.shape)], -1).astype(np.float32) for c in corners)
    labels = rng.integers(0, 2, (num_images, num_rois))
    labels[-1] = 1
    valid = rng.random((num_images, num_rois)) < 0.8
    ious = rng.random((num_images, num_proposals)).astype(np.float32)
    ious[rng.random(ious.shape) < 0.3] = -1
    found = RoITargets(labels, truth, np.zeros_like(labels), valid, None, ious)
    rois = RoIs(boxes, np.zeros(valid.shape, np.float32), valid)
    stage = StageOutputs(rois, found, None, None, np.zeros((*valid.shape, 2)), np.zeros((*valid.shape, 1, 4)), WEIGHTS)
    present = np.arange(num_images)[:, None] < num_images - 1
    targets = Targets(np.zeros((num_images, 1, 4), np.float32), np.zeros((num_images, 1), np.int32), present)
    return jax.tree.map(jnp.asarray, (stage._replace(coder_weights=jnp.asarray(WEIGHTS)), targets))


def reference_step(stages, rule):
    """The two statistics of one step, over all images of all devices."""
    ious, errors, num_images = [], [], 0
    for stage, targets in stages:
        for image in range(len(stage.targets.labels)):
            num_images += 1
            of_proposals = sorted((v for v in stage.targets.proposal_ious[image].tolist() if v >= 0), reverse=True)
            if targets.valid[image].any() and of_proposals:
                ious.append(of_proposals[: rule.iou_rank][-1])
            for roi in range(stage.targets.labels.shape[1]):
                if stage.targets.valid[image, roi] and stage.targets.labels[image, roi] == 0:
                    dx, dy = encode(stage.targets.boxes[image, roi], stage.rois.boxes[image, roi], WEIGHTS)[:2]
                    errors.append((abs(float(dx)) + abs(float(dy))) / 2)
    errors = sorted(errors)[: rule.error_rank * num_images]
    return np.mean(ious) if ious else np.nan, errors[-1] if errors else np.nan


def gathered(stages, rule):
    seen = [look(*stage, rule) for stage in stages]
    return Seen(*(jnp.concatenate(leaves) for leaves in zip(*seen, strict=True)))


@pytest.mark.parametrize("iou_rank", [1, 2, 50])
def test_the_values_are_those_of_the_reference_over_two_windows(iou_rank):
    rule, rng = RULE._replace(iou_rank=iou_rank, lowest_iou=0.1, highest_beta=999.0), np.random.default_rng(iou_rank)
    state, of_steps = initial_values(rule), []
    for step in range(2 * rule.window):
        stages = [random_stage(rng) for _ in range(2)]  # two devices
        of_steps.append(reference_step(stages, rule))
        state = follow(state, gathered(stages, rule), jnp.int32(step), rule)
        whole = of_steps[: len(of_steps) // rule.window * rule.window][-rule.window :]
        wanted = (np.mean([iou for iou, _ in whole]), np.median([e for _, e in whole])) if whole else (0.1, 999.0)
        np.testing.assert_allclose([state.positive_iou, state.beta], wanted, rtol=1e-5)


def seen(iou, error):
    return Seen(jnp.array([iou]), jnp.array([[error, jnp.inf]]))


def run(values):
    state = initial_values(RULE)
    for step, value in enumerate(values):
        state = follow(state, seen(*value), jnp.int32(step), RULE)
    return float(state.positive_iou), float(state.beta)


def test_by_hand():
    assert run([(0.6, 0.2), (0.5, 0.1)]) == pytest.approx((0.4, 1.0))  # the window is not full
    assert run([(0.6, 0.2), (0.5, 0.1), (0.7, 0.9)]) == pytest.approx((0.6, 0.2))  # mean and median
    assert run([(0.1, 7.0), (0.2, 8.0), (0.3, 9.0)]) == pytest.approx((0.4, 1.0))  # the bounds
    later = [(0.6, 0.2)] * 3 + [(0.9, 0.1)] * 2
    assert run(later) == pytest.approx((0.6, 0.2))
    assert run([*later, (0.9, 0.1)]) == pytest.approx((0.9, 0.1))  # nothing of the first window is left


def test_steps_without_objects_or_positives_do_not_count():
    nan, inf = float("nan"), float("inf")
    assert run([(nan, inf), (0.6, 0.2), (nan, inf)]) == pytest.approx((0.6, 0.2))
    assert run([(nan, inf)] * 3) == pytest.approx((0.4, 1.0))
    assert run([(0.6, 0.0)] * 3) == pytest.approx((0.6, 1.0))  # a transition of 0 would not be defined


def test_an_image_with_fewer_proposals_than_the_rank_takes_the_lowest():
    stage, targets = random_stage(np.random.default_rng(0), num_images=2)
    ious = jnp.array([[0.9, -1, 0.3, -1, -1, -1], [0.5] * 6])
    stage = stage._replace(targets=stage.targets._replace(proposal_ious=ious))
    np.testing.assert_allclose(look(stage, targets, RULE._replace(iou_rank=4)).ious, [0.3, np.nan], rtol=1e-6)


def test_no_gradient_passes_through_the_statistics():
    stage, targets = random_stage(np.random.default_rng(1))

    def sums(boxes):
        errors = look(stage._replace(rois=stage.rois._replace(boxes=boxes)), targets, RULE).errors
        return jnp.where(jnp.isfinite(errors), errors, 0.0).sum()

    assert sums(stage.rois.boxes) > 0 and not jax.grad(sums)(stage.rois.boxes).any()


def test_the_rule_starts_from_the_values_of_the_recipe():
    assert dynamic_rule(load("coco")) is None
    assert dynamic_rule(load("coco_dynamic")) == DynamicRule(100, 75, 10, lowest_iou=0.4, highest_beta=1.0)


@pytest.fixture(scope="module")
def parts():
    detector = build_detector(tiny.model_config(), tiny.NUM_CLASSES)
    rule = RULE._replace(window=1, iou_rank=1, lowest_iou=0.05, highest_beta=99.0)
    losses = LOSSES | dict(roi_box_beta=1.0)
    return detector, optax.sgd(0.01, 0.9), losses, rule, init_variables(detector, 0)


@pytest.mark.slow
def test_the_values_are_equal_on_all_devices_and_for_any_number_of_them(parts, monkeypatch):
    detector, optimizer, losses, rule, variables = parts
    alone = make_train_step(detector, optimizer, losses, ema_decay=0.0, seed=0, images_at_once=2, dynamic=rule)
    wanted, _ = alone(create_state(variables, optimizer, False, rule), make_batch(1, 4))
    pmap = jax.pmap
    monkeypatch.setattr(jax, "pmap", lambda f, **options: pmap(f, **options | {"out_axes": 0, "donate_argnums": ()}))
    together = make_train_step(detector, optimizer, losses, ema_decay=0.0, seed=0, dynamic=rule)
    state, metrics = together(create_state(variables, optimizer, False, rule), make_batch(4))
    for leaf in jax.tree.leaves((state.dynamic, metrics)):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one[0], other, rtol=1e-4, atol=1e-6)
    assert (metrics["positive_iou"][0], metrics["roi_box_beta"][0]) == (np.float32(0.05), 99.0)
    assert 0.05 < state.dynamic.positive_iou[0] < 1.0 and 0.0 < state.dynamic.beta[0] < 99.0
    # With a positive IoU of nearly 1, only the true boxes are positive: 0, 1, 2 and 3 in the four images.
    strict = wanted.dynamic._replace(positive_iou=jnp.float32(0.99))
    _, later = alone(wanted._replace(dynamic=strict), make_batch(1, 4))
    assert later["positive_iou"] == np.float32(0.99) and later["positive_rois"] == 1.5


def test_a_checkpoint_has_the_values_and_the_window(tmp_path):
    dynamic = DynamicState(jnp.float32(0.5), jnp.float32(0.2), jnp.array([0.5, jnp.nan]), jnp.array([jnp.nan, 0.2]))
    state = state_of(1.0)._replace(dynamic=dynamic)
    with Checkpoints(str(tmp_path)) as checkpoints:
        checkpoints.save(1, state, {"step": 1}, manifest_of(state))
    like = jax.eval_shape(lambda: state)
    with Checkpoints(str(tmp_path)) as checkpoints:
        restored = checkpoints.restore(like, manifest_of(state))
    assert isinstance(restored.state.dynamic, DynamicState)
    for one, other in zip(restored.state.dynamic, dynamic, strict=True):
        np.testing.assert_array_equal(one, other)
