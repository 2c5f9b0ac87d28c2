"""The pmapped step: what it computes does not depend on how the batch is spread over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.coco import get_config
from lga_jax.errors import UserError
from lga_jax.models.build import build_detector, init_variables
from lga_jax.structs import DEVICE_AXIS, Batch, Targets
from lga_jax.training import step as step_module
from lga_jax.training.step import create_state, make_train_step
from tests.models import tiny
from tests.ops.platforms import use_forms_of

LOSSES = get_config().losses.to_dict() | dict(guide_rois="all")


def make_batch(num_devices, per_device=1):
    num_images = num_devices * per_device
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (num_images, *tiny.IMAGE_HW, 3), dtype=np.uint8)
    corners = random.uniform(0, 40, (num_images, 3, 2))
    boxes = np.concatenate([corners, corners + random.uniform(10, 24, (num_images, 3, 2))], axis=-1)
    # Images differ in their number of objects: a mean over present objects would weigh devices wrongly.
    valid = np.arange(3)[None] < (np.arange(num_images) % 4)[:, None]
    batch = Batch(
        images=images,
        image_hw=np.full((num_images, 2), tiny.IMAGE_HW, np.float32),
        scale_hw=np.ones((num_images, 2), np.float32),
        targets=Targets(
            boxes=(boxes * valid[..., None]).astype(np.float32),
            labels=(random.integers(0, 3, (num_images, 3)) * valid).astype(np.int32),
            valid=valid,
        ),
        index=np.arange(num_images, dtype=np.int32),
    )
    return jax.tree.map(lambda leaf: leaf.reshape(num_devices, per_device, *leaf.shape[1:]), batch)


@pytest.fixture(scope="module")
def setup():
    detector = build_detector(tiny.model_config(), tiny.NUM_CLASSES)
    optimizer = optax.sgd(0.01, 0.9)
    step = make_train_step(detector, optimizer, LOSSES, ema_decay=0.9, seed=0)
    return detector, optimizer, step, init_variables(detector, 0)


@pytest.fixture(scope="module")
def on_four_devices(setup):
    _, optimizer, step, variables = setup
    states = [create_state(variables, optimizer, ema=True)]
    state, metrics = step(states[0], make_batch(4))
    return state, metrics


def test_four_devices_equal_one_device(setup, on_four_devices):
    _, optimizer, step, variables = setup
    together, metrics = on_four_devices
    alone, wanted = step(create_state(variables, optimizer, ema=True), make_batch(1, 4))
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
    for one, other in zip(jax.tree.leaves(together.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_few_images_at_once_equal_all_of_them(setup, on_four_devices):
    """Losses have fixed divisors, so the mean of the parts' gradients is the gradient of the whole."""
    detector, optimizer, _, variables = setup
    together, wanted = on_four_devices
    step = make_train_step(detector, optimizer, LOSSES, ema_decay=0.9, seed=0, images_at_once=1)
    in_parts, metrics = step(create_state(variables, optimizer, ema=True), make_batch(2, 2))
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
    for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(in_parts), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def mean_logit(outputs, batch):
    return 3.0 * outputs.stages[0].class_logits.mean()


def test_an_extra_loss_is_added_logged_and_trained_on(setup, on_four_devices):
    """The mean of the logits has a known gradient in each of their biases: one over the number of logits."""
    detector, optimizer, _, variables = setup
    plain, metrics = on_four_devices
    losses = {"mean_logit": mean_logit}
    step = make_train_step(detector, optimizer, LOSSES, ema_decay=0.9, seed=0, extra_losses=losses)
    trained, found = step(create_state(variables, optimizer, ema=True), make_batch(4))
    assert found.keys() == metrics.keys() | losses.keys()
    np.testing.assert_allclose(found["total"], metrics["total"] + found["mean_logit"], rtol=1e-5)
    np.testing.assert_allclose(found["roi_class"], metrics["roi_class"], rtol=1e-5)
    one, other = (state.params["box_head"]["classes"]["bias"] for state in (trained, plain))
    np.testing.assert_allclose(one - other, -0.01 * 3.0 / len(one), rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "loss", "expected"),
    [("total", mean_logit, "unused name"), ("mine", lambda outputs, batch: jnp.ones(2), "scalar")],
)
def test_an_extra_loss_needs_a_name_of_its_own_and_a_scalar(setup, name, loss, expected):
    detector, optimizer, _, variables = setup
    step = make_train_step(detector, optimizer, LOSSES, ema_decay=0.9, seed=0, extra_losses={name: loss})
    with pytest.raises(UserError) as caught:
        step.lower(create_state(variables, optimizer, ema=True), make_batch(4))
    assert caught.value.subject == f"extra_losses: {name}" and expected in caught.value.expected


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "dtype"), [("bn", "float32"), ("frozen_bn", "bfloat16")])
def test_other_norms_and_bfloat16_train(norm, dtype):
    """Statistics of "bn" span the devices, so four devices equal one; bfloat16 stays finite and near."""
    config = tiny.model_config(dtype=dtype, backbone=dict(depth=18, width=8, norm=norm, frozen_stages=0))
    detector = build_detector(config, tiny.NUM_CLASSES)
    optimizer = optax.sgd(0.01, 0.9)
    step = make_train_step(detector, optimizer, LOSSES, ema_decay=0.0, seed=0)
    variables = init_variables(detector, 0)
    before = jax.device_get(variables["batch_stats"])
    together, metrics = step(create_state(variables, optimizer, ema=False), make_batch(4))
    alone, wanted = step(create_state(variables, optimizer, ema=False), make_batch(1, 4))
    tolerance = dict(rtol=1e-3, atol=1e-5) if dtype == "float32" else dict(rtol=0.1, atol=0.05)
    np.testing.assert_allclose(metrics["total"], wanted["total"], **tolerance)
    pairs = zip(jax.tree.leaves(together.batch_stats), jax.tree.leaves(alone.batch_stats), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, **tolerance)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(together.params))
    moved = any(
        bool(jnp.any(one != other))
        for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(together.batch_stats), strict=True)
    )
    assert moved == (norm == "bn")


def test_means_in_one_array_are_the_means_of_the_arrays():
    random = np.random.default_rng(0)
    grads = {
        "a": random.normal(size=(4, 3, 2)).astype(np.float32),
        "b": {"c": random.normal(size=4).astype(np.float32)},
    }
    trees = grads, {"loss": np.arange(4, dtype=np.float32)}, {"mean": None, "var": np.ones((4, 5), np.float32)}
    forms = (step_module._averaged_by_array, step_module._averaged_in_one_array)
    (expected, norm), (found, other) = (jax.pmap(form, DEVICE_AXIS, out_axes=None)(trees) for form in forms)
    jax.tree.map(np.testing.assert_array_equal, expected, found)
    np.testing.assert_allclose(norm, np.sqrt(sum(np.sum(g.mean(0) ** 2) for g in jax.tree.leaves(grads))), rtol=1e-6)
    np.testing.assert_allclose(other, norm, rtol=1e-6)


def test_metrics_of_other_types_are_averaged_one_by_one():
    """An extra loss may have the type of the features that it reads."""
    trees = {"a": np.ones((4, 2), np.float32)}, {"extra": jnp.arange(4, dtype=jnp.bfloat16)}
    (_, metrics), _ = jax.pmap(step_module._averaged, DEVICE_AXIS, out_axes=None)(trees)
    assert (metrics["extra"], metrics["extra"].dtype) == (1.5, jnp.bfloat16)
    counted = {"seen": jnp.asarray(2**24 + 1, jnp.int32), "mean": jnp.ones(2)}
    jax.tree.map(np.testing.assert_array_equal, counted, jax.jit(step_module._read_together)(counted))


def test_constants_in_one_array_are_equal(monkeypatch):
    use_forms_of("cuda", monkeypatch)
    tree = {"a": {"scale": np.arange(3, dtype=np.float32), "var": np.ones(2, np.float32)}, "b": {}}
    jax.tree.map(np.testing.assert_array_equal, tree, jax.jit(step_module._read_together)(tree))
    assert step_module._read_together({}) == {}


def test_replicas_are_equal(setup, monkeypatch):
    """out_axes=None returns device 0's value of anything; here every device's value is looked at."""
    detector, optimizer, _, variables = setup
    pmap = jax.pmap
    monkeypatch.setattr(jax, "pmap", lambda f, **options: pmap(f, **options | {"out_axes": 0, "donate_argnums": ()}))
    step = make_train_step(detector, optimizer, LOSSES, ema_decay=0.9, seed=0)
    for leaf in jax.tree.leaves(step(create_state(variables, optimizer, ema=True), make_batch(4))):
        replicas = np.asarray(leaf)
        assert replicas.shape[0] == 4
        np.testing.assert_array_equal(replicas, np.broadcast_to(replicas[:1], replicas.shape))


def test_state_stays_unstacked_and_is_donated(setup, on_four_devices):
    _, optimizer, step, variables = setup
    state = create_state(variables, optimizer, ema=True)
    updated, _ = step(state, make_batch(4))
    assert jax.tree.map(jnp.shape, updated.params) == jax.tree.map(jnp.shape, variables["params"])
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(variables["params"]))
    assert int(updated.step) == 1
    for one, other in zip(jax.tree.leaves(updated.params), jax.tree.leaves(on_four_devices[0].params), strict=True):
        np.testing.assert_array_equal(one, other)  # the same step twice is the same, bit for bit


def test_steps_after_the_first_compile_nothing(setup, on_four_devices):
    _, optimizer, step, variables = setup
    state = create_state(variables, optimizer, ema=True)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(event) if "backend_compile" in event else None
    )
    try:
        batches = [make_batch(4) for _ in range(2)]
        for batch in batches:
            state, _ = step(state, batch)
        assert not compiled
        jax.jit(lambda x: x + 1)(1.0)  # the listener does hear compilations
        assert compiled
    finally:
        jax.monitoring.clear_event_listeners()


def test_average_follows_the_parameters(setup, on_four_devices):
    variables, state = setup[3], on_four_devices[0]
    wanted = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, variables["params"], state.params)
    for one, other in zip(jax.tree.leaves(state.ema_params), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_image_keys_are_all_different_and_change_with_the_step():
    keys = jax.pmap(lambda step: step_module._image_keys(0, step, 3), axis_name="devices")
    steps = (jnp.full(4, step, jnp.int32) for step in (0, 1))
    first, second = (np.asarray(jax.random.key_data(keys(step))).reshape(12, -1) for step in steps)
    assert len({tuple(k) for k in np.concatenate([first, second])}) == 24
