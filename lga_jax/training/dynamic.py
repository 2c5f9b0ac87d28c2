"""Dynamic R-CNN (Zhang et al. 2020, arXiv:2004.06002): two values of the RoI stage follow the progress of training.

Proposals become better while the detector learns. The positive IoU rises with them, so that labels stay selective
(dynamic label assignment). The transition of the smooth-L1 loss falls with the box deltas that are still to be learned,
so that small ones keep a gradient (dynamic smooth L1). Both change once per window of steps, to the mean and the median
of what the steps of the window have seen.

Statistics cover the images of all devices, so they do not depend on the number of devices. MMDetection has values of
its own on every device.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from lga_jax.ops import boxes as box_ops
from lga_jax.structs import StageOutputs, Targets


class DynamicRule(NamedTuple):
    """The recipe's `dynamic`, and where the two values start."""

    window: int  # steps between two changes
    iou_rank: int  # of an image's proposals, the IoU of this rank counts; 1: the highest
    error_rank: int  # of the batch's positive RoIs, the error of this rank times the number of images; 1: the lowest
    lowest_iou: float  # the first positive IoU, and a lower bound
    highest_beta: float  # the first transition, and an upper bound


class DynamicState(NamedTuple):
    """The two values, and what the steps of the window have seen; nan: nothing."""

    positive_iou: Float[Array, ""]
    beta: Float[Array, ""]
    ious: Float[Array, "n"]
    errors: Float[Array, "n"]


class Seen(NamedTuple):
    """What a step has seen in each image."""

    ious: Float[Array, "b"]  # the IoU of rank iou_rank, nan without objects or proposals
    errors: Float[Array, "b r"]  # mean of |dx| and |dy| that each positive RoI should have; infinite for other RoIs


def dynamic_rule(recipe: ConfigDict) -> DynamicRule | None:
    """The rule of a checked recipe; None if both values stay fixed."""
    if not recipe.dynamic.window:
        return None
    return DynamicRule(
        **recipe.dynamic, lowest_iou=recipe.model.roi_sampling.positive_iou, highest_beta=recipe.losses.roi_box_beta
    )


def initial_values(rule: DynamicRule) -> DynamicState:
    """The state before the first step."""
    nothing = jnp.full(rule.window, jnp.nan)
    return DynamicState(jnp.float32(rule.lowest_iou), jnp.float32(rule.highest_beta), nothing, nothing)


def look(stage: StageOutputs, targets: Targets, rule: DynamicRule) -> Seen:
    """What the images of a device show, from the outputs of the first stage."""
    stage = jax.lax.stop_gradient(stage)
    found = stage.targets
    best = jax.lax.top_k(found.proposal_ious, min(rule.iou_rank, found.proposal_ious.shape[1]))[0]
    last = jnp.sum(best >= 0.0, axis=1) - 1  # with fewer proposals, the lowest of them
    ious = jnp.take_along_axis(best, jnp.maximum(last, 0)[:, None], axis=1)[:, 0]
    known = (last >= 0) & jnp.any(targets.valid, axis=1)
    wanted = box_ops.encode(found.boxes, stage.rois.boxes, stage.coder_weights)
    positive = found.valid & (found.labels < stage.class_logits.shape[-1] - 1)
    errors = jnp.abs(wanted[..., :2]).mean(axis=-1)
    return Seen(jnp.where(known, ious, jnp.nan), jnp.where(positive, errors, jnp.inf))


def follow(state: DynamicState, seen: Seen, step: Int[Array, ""], rule: DynamicRule) -> DynamicState:
    """The state after a step. `seen`: in all images of the batch, over all devices."""
    errors = jnp.sort(seen.errors.reshape(-1))
    rank = jnp.minimum(rule.error_rank * seen.errors.shape[0], jnp.sum(jnp.isfinite(errors)))
    error = jnp.where(rank > 0, errors[jnp.maximum(rank - 1, 0)], jnp.nan)
    place = step % rule.window
    ious, errors = state.ious.at[place].set(jnp.nanmean(seen.ious)), state.errors.at[place].set(error)
    full = place == rule.window - 1
    iou, beta = jnp.maximum(rule.lowest_iou, jnp.nanmean(ious)), jnp.minimum(rule.highest_beta, jnp.nanmedian(errors))
    return DynamicState(
        # A window that has seen nothing changes nothing; with a transition of 0 the loss would not be defined.
        positive_iou=jnp.where(full & jnp.isfinite(iou), iou, state.positive_iou),
        beta=jnp.where(full & (beta > 0.0), beta, state.beta),
        ious=ious,
        errors=errors,
    )
