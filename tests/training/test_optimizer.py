"""Optimizer and schedule: hand-made numbers, a numpy oracle of torch's rules, what is left alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from configs.coco import get_config
from lga_jax.models.build import build_detector, init_variables
from lga_jax.models.layers import NORMS
from lga_jax.training.optimizer import describe, in_norms, make_optimizer, make_schedule


def _optim(**changes):
    optim = get_config().optim
    optim.update(lr=0.1, lr_batch_size=4, milestones=(), warmup_steps=0, **changes)
    return optim


def _params():
    return {
        "conv": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([0.5, 3.0])},
        "norm1": {"bn": {"scale": jnp.array([2.0]), "bias": jnp.array([4.0])}},
    }


def _run(optimizer, params, grads):
    state = optimizer.init(params)
    for grad in grads:
        updates, state = optimizer.update(grad, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


def _grads(params, count):
    rng = np.random.default_rng(0)
    return [jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params) for _ in range(count)]


def _trained(params):
    return jax.tree.map(lambda _: "trained", params)


def test_step_schedule_picture():
    rates = make_schedule(
        1.0, 10, schedule="step", milestones=(6, 8), decay_factor=0.1, warmup_steps=4, warmup_factor=0.2
    )
    expected = [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    np.testing.assert_allclose([rates(step) for step in range(10)], expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(rates))(jnp.arange(10)), expected, rtol=1e-6)


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_the_rate_for_the_log_is_the_rate_of_the_step_and_needs_no_device(schedule):
    """On a device it would wait behind the step that runs."""
    rates = make_schedule(
        0.02, 90, schedule=schedule, milestones=(60, 80), decay_factor=0.1, warmup_steps=10, warmup_factor=1e-3
    )
    with jax.transfer_guard("disallow"):
        logged = [rates(step) for step in (0, 7, 61, 89)]
    assert not any(isinstance(rate, jax.Array) for rate in logged)
    used = [jax.jit(rates)(jnp.int32(step)) for step in (0, 7, 61, 89)]
    np.testing.assert_allclose(logged, used, rtol=1e-5, atol=1e-9)


def test_cosine_schedule_ends_at_zero():
    rates = make_schedule(
        2.0, 100, schedule="cosine", milestones=(), decay_factor=0.1, warmup_steps=0, warmup_factor=0.0
    )
    np.testing.assert_allclose([rates(0), rates(50), rates(100)], [2.0, 1.0, 0.0], atol=1e-6)


def test_learning_rate_is_scaled_with_the_batch_and_said():
    optim = _optim(warmup_factor=1.0)
    _, schedule = make_optimizer(optim, 2, 10, _trained(_params()))
    assert float(schedule(0)) == pytest.approx(0.05)
    assert "learning rate 0.05 = 0.1 x 2/4" in describe(optim, 2, 10)


def test_sgd_is_torchs():
    """torch.optim.SGD: the decay joins the gradient before the momentum, the rate multiplies the buffer."""
    params, (wd, norm_wd, momentum, lr) = _params(), (0.2, 0.05, 0.9, 0.1)
    optim = _optim(weight_decay=wd, norm_weight_decay=norm_wd, momentum=momentum)
    optimizer, _ = make_optimizer(optim, 4, 10, _trained(params))
    grads = _grads(params, 3)
    updated = _run(optimizer, params, grads)
    for path, decay in ((("conv", "kernel"), wd), (("conv", "bias"), wd), (("norm1", "bn", "bias"), norm_wd)):
        value, *gradients = (_at(tree, path) for tree in (params, *grads))
        buffer = np.zeros_like(value)
        for gradient in gradients:
            buffer = momentum * buffer + gradient + decay * value
            value = value - lr * buffer
        np.testing.assert_allclose(_at(updated, path), value, rtol=1e-5)


def test_adamw_is_torchs():
    """torch.optim.AdamW: the decay shrinks the parameter and never enters the moments."""
    params, (wd, norm_wd, lr) = _params(), (0.2, 0.05, 0.1)
    optim = _optim(optimizer="adamw", weight_decay=wd, norm_weight_decay=norm_wd)
    optimizer, _ = make_optimizer(optim, 4, 10, _trained(params))
    grads = _grads(params, 3)
    updated = _run(optimizer, params, grads)
    for path, decay in ((("conv", "kernel"), wd), (("norm1", "bn", "scale"), norm_wd)):
        value, *gradients = (_at(tree, path) for tree in (params, *grads))
        first = second = 0.0
        for t, gradient in enumerate(gradients, start=1):
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            step = (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
            value = value * (1 - lr * decay) - lr * step
        np.testing.assert_allclose(_at(updated, path), value, rtol=1e-4)


def test_scales_and_biases_of_norms_are_told_from_those_of_layers():
    assert in_norms(_params()) == {
        "conv": {"kernel": False, "bias": False},
        "norm1": {"bn": {"scale": True, "bias": True}},
    }


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_of_a_detector_is_found(norm):
    model = get_config().model
    model.backbone.update(norm=norm, frozen_stages=0)
    model.fpn.norm = norm
    model.box_head.update(norm=norm, num_convs=1)
    detector = build_detector(model, 2)
    params = jax.eval_shape(lambda: init_variables(detector, 0))["params"]
    found = {path for path, is_norm in flatten_dict(in_norms(params)).items() if is_norm}
    without_kernel = {path for path in flatten_dict(params) if (*path[:-1], "kernel") not in flatten_dict(params)}
    assert found == without_kernel - {("attention", "centres", "places"), ("attention", "centres", "stretch")}
    assert bool(found) == (norm != "frozen_bn")


def test_norms_have_a_decay_of_their_own():
    """One step of plain SGD and of AdamW on the parameters 1, 2 and 4, by hand."""
    params, zeros = _params(), jax.tree.map(jnp.zeros_like, _params())
    changes = {"weight_decay": 0.5, "norm_weight_decay": 0.25}
    for optimizer in ("sgd", "adamw"):  # without a gradient both subtract lr x decay x parameter
        rule, _ = make_optimizer(_optim(optimizer=optimizer, **changes), 4, 10, _trained(params))
        updated = _run(rule, params, [zeros])
        np.testing.assert_allclose(updated["conv"]["kernel"], [[0.95, -1.9]], rtol=1e-6)
        np.testing.assert_allclose(updated["norm1"]["bn"]["scale"], [1.95], rtol=1e-6)
        np.testing.assert_allclose(updated["norm1"]["bn"]["bias"], [3.9], rtol=1e-6)


def test_frozen_parameters_stay_and_hold_no_memory():
    params = _params()
    labels = {"conv": {"kernel": "frozen", "bias": "frozen"}, "norm1": {"bn": {"scale": "trained", "bias": "trained"}}}
    optimizer, _ = make_optimizer(_optim(weight_decay=0.1), 4, 10, labels)
    updated = _run(optimizer, params, _grads(params, 2))
    np.testing.assert_array_equal(updated["conv"]["kernel"], params["conv"]["kernel"])
    assert not np.array_equal(updated["norm1"]["bn"]["bias"], params["norm1"]["bn"]["bias"])
    assert sum(leaf.size for leaf in jax.tree.leaves(optimizer.init(params))) == 2 + 1  # two momenta and the count


def test_clipping_bounds_the_norm_of_what_is_trained():
    params = _params()
    labels = {"conv": {"kernel": "trained", "bias": "trained"}, "norm1": {"bn": {"scale": "frozen", "bias": "frozen"}}}
    optimizer, _ = make_optimizer(_optim(clip_norm=1.0, weight_decay=0.0, momentum=0.0), 4, 10, labels)
    grads = jax.tree.map(lambda p: jnp.full(p.shape, 3.0), params)
    grads["norm1"]["bn"]["scale"] *= 1e6  # frozen: must not shrink the others
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(
        np.linalg.norm(np.concatenate([*map(np.ravel, jax.tree.leaves(updates))])), 0.1, rtol=1e-5
    )


def _at(tree, path):
    for name in path:
        tree = tree[name]
    return np.asarray(tree)


@pytest.mark.parametrize(("num_steps", "warns"), [(9, True), (10, True), (11, False)])
def test_a_warmup_as_long_as_the_run_is_a_warning(num_steps, warns):
    optim = _optim(schedule="cosine")
    optim.warmup_steps = 10
    assert ("WARNING" in describe(optim, 4, num_steps)) == warns


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_factors_multiply_the_learning_rate_and_frozen_parameters_stay(kind):
    params = _params()
    labels = _trained(params) | {"norm1": {"bn": {"scale": "frozen", "bias": "trained"}}}
    factors = jax.tree.map(lambda _: 1.0, params) | {"conv": {"kernel": 0.25, "bias": 1.0}}
    grads = _grads(params, 2)
    plain, _ = make_optimizer(_optim(optimizer=kind, weight_decay=0.0), 4, 10, labels)
    scaled, _ = make_optimizer(_optim(optimizer=kind, weight_decay=0.0), 4, 10, labels, factors=factors)
    moved, less = (jax.tree.map(jnp.subtract, _run(rule, params, grads), params) for rule in (plain, scaled))
    np.testing.assert_allclose(less["conv"]["kernel"], 0.25 * moved["conv"]["kernel"], rtol=1e-4)
    np.testing.assert_allclose(less["conv"]["bias"], moved["conv"]["bias"], rtol=1e-6)
    assert not less["norm1"]["bn"]["scale"].any() and less["norm1"]["bn"]["bias"].any()
