"""The training state and the training step."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PyTree

from lga_jax.errors import UserError
from lga_jax.inference.step import replicate
from lga_jax.models.detector import Detector
from lga_jax.models.layers import frozen_constants
from lga_jax.models.losses import detection_losses
from lga_jax.processes.mesh import map_over_devices
from lga_jax.structs import DEVICE_AXIS, Batch, Outputs, TrainState
from lga_jax.training.dynamic import DynamicRule, DynamicState, Seen, follow, initial_values, look

Step = Callable[["TrainState", Batch], tuple["TrainState", dict[str, Array]]]  # also has jax's method `lower`
ExtraLoss = Callable[[Outputs, Batch], Float[Array, ""]]
_METRICS = ("grad_norm", "positive_rois", "positive_iou", "roi_box_beta")  # beside the losses


def create_state(
    variables: Mapping[str, Any],
    optimizer: optax.GradientTransformation,
    ema: bool,
    dynamic: DynamicRule | None = None,
) -> TrainState:
    """The state before the first step, on all devices."""
    return replicate(initial_state(variables, optimizer, ema, dynamic))


def initial_state(
    variables: Mapping[str, Any],
    optimizer: optax.GradientTransformation,
    ema: bool,
    dynamic: DynamicRule | None = None,
) -> TrainState:
    """The state before the first step, on one device."""
    params = variables["params"]
    return TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(params),
        ema_params=params if ema else None,
        dynamic=initial_values(dynamic) if dynamic else None,
    )


def make_train_step(
    detector: Detector,
    optimizer: optax.GradientTransformation,
    losses: Mapping[str, Any],
    *,
    ema_decay: float,
    seed: int,
    images_at_once: int = 0,
    extra_losses: Mapping[str, ExtraLoss] = MappingProxyType({}),
    dynamic: DynamicRule | None = None,
) -> Step:
    """The step over all devices: (state, batch) -> (state, metrics). The state is donated.

    Leaves of the batch are [devices, b, ...]. With one process it is a `jax.pmap` (`map_over_devices`). The arguments
    are those of `device_step`.
    """
    step = device_step(
        detector,
        optimizer,
        losses,
        ema_decay=ema_decay,
        seed=seed,
        images_at_once=images_at_once,
        extra_losses=extra_losses,
        dynamic=dynamic,
    )
    return map_over_devices(step, gather=False, donate=True)


def device_step(
    detector: Detector,
    optimizer: optax.GradientTransformation,
    losses: Mapping[str, Any],
    *,
    ema_decay: float,
    seed: int,
    images_at_once: int = 0,
    extra_losses: Mapping[str, ExtraLoss] = MappingProxyType({}),
    dynamic: DynamicRule | None = None,
) -> Step:
    """The step as each device computes it, (state, batch) -> (state, metrics): to be mapped over DEVICE_AXIS.

    Leaves of the batch are [b, ...]. Metrics are scalars, equal on all devices: the loss terms, 'grad_norm' (before
    clipping) and 'positive_rois' (per image, in the first stage); with `dynamic` also its two values in this step,
    'positive_iou' and 'roi_box_beta'.

    Args:
        detector, optimizer: as for `create_state`.
        losses: the recipe's `losses` section.
        ema_decay: decay of the moving average of the parameters.
        seed: seed of the random anchors and RoIs.
        images_at_once: images per device processed at a time; their gradients are averaged. 0: all b images. The
            result is the same, except with the norm "bn", whose statistics would cover fewer images.
        extra_losses: functions of a device's outputs and batch, by name. Each returns a weighted mean over images,
            which is added to 'total' and becomes a metric. A name in use raises UserError while the step is traced.
        dynamic: values of the first stage follow the training; the state is created with the same rule.
    """

    def loss_fn(
        params: Any, batch_stats: Any, batch: Batch, keys: Key[Array, "b"], now: DynamicState | None
    ) -> tuple[Array, tuple[dict[str, Array], Any, Seen | None]]:
        variables = {"params": params, "batch_stats": _read_together(batch_stats)}
        inputs = (batch.images, batch.image_hw, batch.targets, keys, *((now.positive_iou,) if now else ()))
        outputs, updated = detector.apply(variables, *inputs, mutable=["batch_stats"])
        rule = {**losses, "roi_box_beta": now.beta} if now else losses
        terms = detection_losses(detector.stages, outputs, batch.targets, rule)
        terms = _with_extra(terms, {name: loss(outputs, batch) for name, loss in extra_losses.items()})
        truth = outputs.stages[0].targets
        positive = (truth.labels < detector.stages[0].num_classes) & truth.valid
        metrics = terms | {"positive_rois": positive.sum(axis=1).mean()}
        seen = look(outputs.stages[0], batch.targets, dynamic) if now else None
        return terms["total"], (metrics, updated.get("batch_stats", {}), seen)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        keys = _image_keys(seed, state.step, batch.index.shape[0])
        gradient = jax.grad(loss_fn, has_aux=True)
        if images_at_once in (0, batch.index.shape[0]):
            grads, (metrics, batch_stats, seen) = gradient(state.params, state.batch_stats, batch, keys, state.dynamic)
        else:
            parts = jax.tree.map(lambda leaf: leaf.reshape(-1, images_at_once, *leaf.shape[1:]), (batch, keys))
            batch_stats = state.batch_stats

            def part_gradients(part: tuple[Batch, Array]) -> tuple[tuple[Any, dict[str, Array]], Seen | None]:
                grads, (metrics, _, seen) = gradient(state.params, batch_stats, *part, state.dynamic)
                return (grads, metrics), seen

            (grads, metrics), seen = _mean_over(part_gradients, parts)
        # Constants of frozen norms are equal on all devices: two thirds of all arrays need no mean.
        constant = frozen_constants(batch_stats)
        moving = jax.tree.map(lambda fixed, leaf: None if fixed else leaf, constant, batch_stats)
        # The loss is normalised by fixed counts, so the mean over devices is the loss of the whole batch.
        (grads, metrics, moving), grad_norm = _averaged((grads, metrics, moving))
        batch_stats = jax.tree.map(lambda fixed, mean, own: own if fixed else mean, constant, moving, state.batch_stats)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema_params = state.ema_params
        if ema_params is not None:
            ema_params = optax.incremental_update(params, ema_params, 1.0 - ema_decay)
        metrics["grad_norm"] = grad_norm
        now = state.dynamic
        if now is not None:
            metrics |= {"positive_iou": now.positive_iou, "roi_box_beta": now.beta}
            now = follow(now, jax.lax.all_gather(seen, DEVICE_AXIS, tiled=True), state.step, dynamic)
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema_params, now), metrics

    return step


def _averaged(trees: tuple[PyTree, ...]) -> tuple[tuple[PyTree, ...], Float[Array, ""]]:
    """The means over devices, and the norm of the first tree."""
    if not _is_float32(trees):  # one array has one type
        return _averaged_by_array(trees)
    return jax.lax.platform_dependent(trees, cuda=_averaged_in_one_array, default=_averaged_by_array)


def _averaged_by_array(trees: tuple[PyTree, ...]) -> tuple[tuple[PyTree, ...], Float[Array, ""]]:
    means = jax.lax.pmean(trees, DEVICE_AXIS)
    return means, optax.tree.norm(means[0])


def _averaged_in_one_array(trees: tuple[PyTree, ...]) -> tuple[tuple[PyTree, ...], Float[Array, ""]]:
    """One reduction for all arrays, and one for all of the norm: a GPU starts some hundred kernels less."""
    flat, unravel = ravel_pytree(trees)
    flat = jax.lax.pmean(flat, DEVICE_AXIS)
    size = sum(leaf.size for leaf in jax.tree.leaves(trees[0]))
    return _slices(flat, unravel), jnp.sqrt(jnp.sum(jnp.square(flat[:size])))


def _read_together(tree: PyTree) -> PyTree:
    """The same arrays; on a GPU, parts of one array."""
    if not jax.tree.leaves(tree) or not _is_float32(tree):
        return tree
    return jax.lax.platform_dependent(
        tree, cuda=lambda arrays: _slices(*ravel_pytree(arrays)), default=lambda arrays: arrays
    )


def _is_float32(tree: PyTree) -> bool:
    return all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(tree))


def _slices(flat: Float[Array, "n"], unravel: Callable[[Array], PyTree]) -> PyTree:
    """The arrays of `flat`. XLA's GPU compiler joins kernels of equal shape only if all read the same small array."""
    flat, ones = jax.lax.optimization_barrier((flat, jnp.ones(2, flat.dtype)))
    return jax.tree.map(lambda leaf: leaf * ones[0], unravel(flat))


def _with_extra(terms: Mapping[str, Array], extra: Mapping[str, Array]) -> dict[str, Array]:
    for name, value in extra.items():
        if name in (*terms, *_METRICS, "step", "lr", "eval"):
            raise UserError(f"extra_losses: {name}", expected="an unused name", found="a name used in metrics.jsonl")
        if jnp.shape(value) != ():
            raise UserError(f"extra_losses: {name}", expected="a scalar", found=f"shape {jnp.shape(value)}")
    return {**terms, **extra, "total": sum(extra.values(), terms["total"])}


def _mean_over(function: Callable[[Any], tuple[Any, Any]], parts: Any) -> tuple[Any, Any]:
    """The mean of the first result of `function` over the parts, and the rows of the second one of all parts.

    Leaves of `parts` are [parts, ...]. The parts are processed one at a time, so memory holds the activations of a
    single part.
    """

    def add(total: Any, part: Any) -> tuple[Any, Any]:
        added, rows = function(part)
        return jax.tree.map(jnp.add, total, added), rows

    first = jax.tree.map(lambda leaf: leaf[0], parts)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function, first)[0])
    total, rows = jax.lax.scan(add, zeros, parts)
    count = jax.tree.leaves(parts)[0].shape[0]
    mean = jax.tree.map(lambda leaf: leaf / count, total)
    return mean, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rows)


def _image_keys(seed: int, step: Int[Array, ""], num_images: int) -> Array:
    """A key per image from seed, step and position in the global batch, independent of the number of devices."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    first = jax.lax.axis_index(DEVICE_AXIS) * num_images
    return jax.vmap(lambda i: jax.random.fold_in(key, first + i))(jnp.arange(num_images))
