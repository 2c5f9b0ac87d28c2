"""The compiled prediction step."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import ScopeCollectionNotFound, ScopeParamNotFoundError, ScopeParamShapeError
from jax.stages import Lowered
from jaxtyping import Float, UInt8

from lga_jax.data.batches.loader import EvalLoader
from lga_jax.errors import UserError
from lga_jax.inference.compilation import size_of
from lga_jax.models.detector import Detector
from lga_jax.models.postprocess import detect
from lga_jax.processes.mesh import map_over_devices, replicated_sharding
from lga_jax.structs import Array, Batch, Detections

# About one image of 800 x 1344. On two cores, eight images of 800 x 1088 processed singly took 0.75 (float32) and
# 0.6 (bfloat16) of the time of a single batch.
_CPU_PIXELS = 2**20


PredictStep = Callable[[Mapping[str, Any], Batch], Detections]  # also has jax's method `lower`


def make_predict_step(detector: Detector, inference: Mapping[str, Any]) -> PredictStep:
    """The step (variables, batch) -> Detections, over all devices. Leaves of batch and result are [devices, b, ...].

    `inference` holds the keyword arguments of `lga_jax.models.postprocess.detect`.
    """
    return map_over_devices(device_predictions(detector, inference), gather=True)


def device_predictions(detector: Detector, inference: Mapping[str, Any]) -> PredictStep:
    """The step as each device computes it: leaves of batch and result are [b, ...]."""
    all_at_once = functools.partial(detect_in, detector, inference)

    def predict(variables: Mapping[str, Any], batch: Batch) -> Detections:
        num_images, inputs = batch.images.shape[0], (batch.images, batch.image_hw)
        at_once = _images_at_once(*batch.images.shape[:3])
        if at_once == num_images:
            return all_at_once(variables, *inputs)

        def in_parts(variables: Mapping[str, Any], *inputs: Array) -> Detections:
            parts = jax.tree.map(lambda leaf: leaf.reshape(-1, at_once, *leaf.shape[1:]), inputs)
            found = jax.lax.map(lambda part: all_at_once(variables, *part), parts)
            return jax.tree.map(lambda leaf: leaf.reshape(num_images, *leaf.shape[2:]), found)

        # The platform that the program is lowered for decides, not this machine's: it may export for another one.
        return jax.lax.platform_dependent(variables, *inputs, cpu=in_parts, default=all_at_once)

    return predict


def detect_in(
    detector: Detector,
    inference: Mapping[str, Any],
    variables: Mapping[str, Any],
    images: UInt8[Array, "b h w 3"],
    image_hw: Float[Array, "b 2"],
) -> Detections:
    """The detections of some images, in pixels of the padded input: network and post-processing."""
    outputs = detector.apply(variables, images, image_hw)
    found = detect(outputs, image_hw, **inference)
    if detector.mask_head is None:
        return found
    return found._replace(masks=detector.apply(variables, outputs.pyramid, found, method="masks"))


def _images_at_once(batch: int, height: int, width: int) -> int:
    """Images at a time on CPUs: few large ones, as activations of many exceed the caches and need new memory pages."""
    most = max(1, _CPU_PIXELS // (height * width))
    return max(at_once for at_once in range(1, batch + 1) if batch % at_once == 0 and at_once <= most)


def lower_predictions(
    predict_step: PredictStep, variables: Mapping[str, Any], loader: EvalLoader
) -> dict[str, Lowered]:
    """The lowered program of each bucket with images, by name, for `compile_ahead`.

    Raises UserError for variables of another model, for example from an earlier version with the same config.
    """
    try:
        return {
            f"evaluation {size_of(batch)}": predict_step.lower(variables, batch) for batch in loader.empty_batches()
        }
    except (ScopeParamNotFoundError, ScopeParamShapeError, ScopeCollectionNotFound) as error:
        found = str(error).split(" (https")[0].rstrip(".")
        raise UserError(
            "checkpoint",
            expected="the parameters of this version's model",
            found=f"other parameters ({found})",
            remedy="use the version that wrote it, or train again",
        ) from None


def replicate(tree: Any) -> Any:
    """Copies every leaf to all devices. With several processes it must be equal in all of them."""
    sharding = replicated_sharding()
    if not sharding.is_fully_addressable:  # device_put would compare each leaf with those of the other processes
        tree = jax.tree.map(
            lambda leaf: jax.make_array_from_callback(np.shape(leaf), sharding, np.asarray(leaf).__getitem__), tree
        )
    # device_put may return the caller's buffers, or one buffer for two leaves. The step donates its state, so every
    # leaf needs a separate buffer.
    return jax.tree.map(jnp.copy, jax.device_put(tree, sharding))
