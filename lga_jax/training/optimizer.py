"""Optimizer and learning rate: SGD with momentum or AdamW, linear warm-up, then steps or a cosine.

The schedules are Detectron2's `WarmupMultiStepLR` and `WarmupCosineLR`. Scales and biases of norms have a separate
weight decay, Detectron2's `WEIGHT_DECAY_NORM`.
"""

import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree
from ml_collections import ConfigDict

Schedule = Callable[[int], float]


def make_optimizer(
    optim: ConfigDict,
    batch_size: int,
    num_steps: int,
    labels: PyTree | Callable[[PyTree], PyTree],
    schedule_start: int = 0,
    factors: PyTree | None = None,
) -> tuple[optax.GradientTransformation, Schedule]:
    """Returns the optimizer and its schedule, step -> learning rate (0: the first step).

    `labels` is 'trained' or 'frozen' for each parameter (a tree, or a function of the parameters). Frozen parameters
    get zero updates, have no optimizer state and do not count in the clipped norm. `factors`: a factor of the learning
    rate for each parameter.
    """
    schedule = make_schedule(
        optim.lr * batch_size / optim.lr_batch_size,
        num_steps,
        start=schedule_start,
        **{key: optim[key] for key in ("schedule", "milestones", "decay_factor", "warmup_steps", "warmup_factor")},
    )
    clip = optax.clip_by_global_norm(optim.clip_norm) if optim.clip_norm > 0 else optax.identity()
    trained = optax.chain(clip, _update_rule(optim, schedule))
    rule = optax.multi_transform({"trained": trained, "frozen": optax.set_to_zero()}, labels)
    if factors is not None:
        scaled = optax.stateless(lambda updates, _: jax.tree.map(operator.mul, updates, factors))
        rule = optax.chain(rule, scaled)
    return rule, schedule


def _update_rule(optim: ConfigDict, schedule: Schedule) -> optax.GradientTransformation:
    decay = optax.chain(
        optax.add_decayed_weights(optim.norm_weight_decay, mask=in_norms),
        optax.add_decayed_weights(
            optim.weight_decay, mask=lambda params: jax.tree.map(operator.not_, in_norms(params))
        ),
    )
    if optim.optimizer == "sgd":
        # The decay is added before the momentum, as in torch.optim.SGD: published recipes are tuned for this order.
        return optax.chain(decay, optax.sgd(schedule, momentum=optim.momentum))
    return optax.chain(optax.scale_by_adam(), decay, optax.scale_by_learning_rate(schedule))


def make_schedule(
    peak: float,
    num_steps: int,
    *,
    schedule: str,
    milestones: Sequence[int],
    decay_factor: float,
    warmup_steps: int,
    warmup_factor: float,
    start: int = 0,
) -> Schedule:
    """Learning rate of a step: the peak, times a linear warm-up, times 'step' or 'cosine' decay.

    `start`: the first step of the schedule. A cosine ends at num_steps; milestones count from `start`. An extended run
    starts a new schedule without warm-up: SGDR's warm restart (arXiv 1608.03983).
    """
    boundaries = np.asarray(tuple(milestones), np.int32)

    def learning_rate(step: int | jax.Array) -> jax.Array | np.float32:
        # The rate of a number is computed on the host: on a device it would wait for the running step.
        xp = jnp if isinstance(step, jax.Array) else np
        progress = xp.minimum(step / max(warmup_steps, 1), 1.0) if warmup_steps and not start else 1.0
        warmup = warmup_factor * (1.0 - progress) + progress
        if schedule == "step":
            decay = decay_factor ** xp.sum(step - start >= boundaries)
        else:
            decay = 0.5 * (1.0 + xp.cos(xp.pi * (step - start) / (num_steps - start)))
        return xp.float32(peak * warmup * decay)

    return learning_rate


def in_norms(params: PyTree) -> PyTree:
    """True for the scales and biases of norms, False for all other parameters."""
    return jax.tree_util.tree_map_with_path(lambda path, _: _in_norm([_name(key) for key in path]), params)


def _in_norm(path: list[str]) -> bool:
    *modules, leaf = path
    return leaf == "scale" or any("norm" in module or "bn" in module for module in map(str.lower, modules))


def _name(key: object) -> str:
    return str(getattr(key, "key", key))


def describe(optim: ConfigDict, batch_size: int, num_steps: int, schedule_start: int = 0) -> str:
    """A one-line description of the learning rate, its scaling and its schedule."""
    lr = optim.lr * batch_size / optim.lr_batch_size
    if optim.schedule == "step":
        at = [schedule_start + step for step in optim.milestones]
        milestones = ", ".join(f"{step:,}" for step in at if step < num_steps)
        decay = f"x {optim.decay_factor:g} at steps {milestones}" if milestones else "constant"
    else:
        decay = f"cosine to 0 at step {num_steps:,}"
    warmup = f"linear warm-up over {optim.warmup_steps:,} steps" if optim.warmup_steps else "no warm-up"
    if optim.warmup_steps >= num_steps:
        warmup = f"WARNING: {warmup}, as long as the whole run or longer"
    if schedule_start:
        warmup = f"a new schedule from step {schedule_start:,}, no warm-up"
    scaling = f"{optim.lr:g} x {batch_size}/{optim.lr_batch_size} (optim.lr x batch_size / optim.lr_batch_size)"
    return f"{optim.optimizer}: learning rate {lr:g} = {scaling}, {warmup}, then {decay}"
