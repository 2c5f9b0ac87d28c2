"""The training losses on evaluation images (validation losses).

The samples of an image depend on its position in the source alone, so two evaluations differ only by the parameters.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lga_jax.models.detector import Detector
from lga_jax.models.losses import detection_losses
from lga_jax.processes.mesh import map_over_devices
from lga_jax.structs import DEVICE_AXIS, Batch, Outputs

LossStep = Callable[[Mapping[str, Any], Batch], dict[str, Array]]  # also has jax's method `lower`
NUM_IMAGES = "num_images"


def make_loss_step(
    detector: Detector,
    losses: Mapping[str, Any],
    extra_losses: Mapping[str, Callable[[Outputs, Batch], Float[Array, ""]]] = MappingProxyType({}),
) -> LossStep:
    """The step (variables, batch) -> the sum of each loss over the images of all devices, and their number.

    Images are processed one at a time, because rows that fill up a batch (index -1) do not count. Norms of kind "bn"
    would use the statistics of a single image; a recipe cannot combine them with these losses.

    Args:
        detector: the detector.
        losses: the recipe's `losses` section.
        extra_losses: as for `lga_jax.training.step.make_train_step`.
    """
    detector = detector.without_stochastic_depth()

    def image_losses(variables: Mapping[str, Any], row: Batch) -> dict[str, Array]:
        one = jax.tree.map(lambda leaf: leaf[None], row)
        keys = jax.random.fold_in(jax.random.key(0), jnp.maximum(row.index, 0))[None]
        outputs, _ = detector.apply(variables, one.images, one.image_hw, one.targets, keys, mutable=["batch_stats"])
        terms = detection_losses(detector.stages, outputs, one.targets, losses)
        extra = {name: loss(outputs, one) for name, loss in extra_losses.items()}
        return {**terms, **extra, "total": sum(extra.values(), terms["total"])}

    def step(variables: Mapping[str, Any], batch: Batch) -> dict[str, Array]:
        real = batch.index >= 0
        terms = jax.lax.map(lambda row: image_losses(variables, row), batch)
        sums = {name: jnp.sum(jnp.where(real, values, 0.0)) for name, values in terms.items()}
        return jax.lax.psum(sums | {NUM_IMAGES: real.sum().astype(jnp.float32)}, DEVICE_AXIS)

    return map_over_devices(step, gather=False)


class LossMeter:
    """The mean of each loss over the images of the batches that pass through."""

    def __init__(self, loss_step: LossStep, variables: Mapping[str, Any]) -> None:
        self._step, self._variables = loss_step, variables
        self._sums: list[dict[str, Array]] = []

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches. The devices compute the losses meanwhile."""
        for batch in batches:
            self._sums.append(self._step(self._variables, batch))
            yield batch

    def means(self) -> dict[str, float]:
        """The mean of each loss over all images."""
        sums = jax.device_get(self._sums)
        totals = {name: float(np.sum([entry[name] for entry in sums], dtype=np.float64)) for name in sums[0]}
        count = totals.pop(NUM_IMAGES)
        return {name: total / count for name, total in sorted(totals.items())}
