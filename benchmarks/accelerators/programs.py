"""The training step and the prediction of a recipe as functions of shapes: no parameter is made."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from lga_jax.inference.step import device_predictions
from lga_jax.models.build import build_detector, init_variables
from lga_jax.models.detector import Detector
from lga_jax.models.freezing import frozen_labels
from lga_jax.structs import Batch, Targets
from lga_jax.training.optimizer import make_optimizer
from lga_jax.training.step import create_state, device_step

NUM_CLASSES = 80
SLOTS = 100  # ground truth of an image of COCO: at most 93 boxes


def training(config: ConfigDict, num_images: int, image_hw: tuple[int, int]) -> tuple[Callable, tuple]:
    """The step of a device, and the shapes of its state and its batch."""
    detector = build_detector(config.model, NUM_CLASSES)
    variables = _variables(detector)
    labels = frozen_labels(variables["params"], detector.backbone)
    optimizer, _ = make_optimizer(config.optim, config.batch_size, config.num_steps, labels)
    state = jax.eval_shape(lambda v: create_state(v, optimizer, ema=config.optim.ema_decay > 0), variables)
    step = device_step(
        detector,
        optimizer,
        config.losses.to_dict(),
        ema_decay=config.optim.ema_decay,
        seed=config.seed,
        images_at_once=config.images_at_once,
    )
    return step, (state, batch_shapes(num_images, image_hw))


def prediction(config: ConfigDict, num_images: int, image_hw: tuple[int, int]) -> tuple[Callable, tuple]:
    """The prediction of a device, and the shapes of its variables and its batch."""
    detector = build_detector(config.model, NUM_CLASSES)
    predict = device_predictions(detector, config.inference.to_dict())
    return predict, (_variables(detector), batch_shapes(num_images, image_hw))


def _variables(detector: Detector) -> Any:
    return jax.eval_shape(lambda: init_variables(detector, 0))


def batch_shapes(num_images: int, image_hw: tuple[int, int]) -> Batch:
    def shape(*sides: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((num_images, *sides), dtype)

    return Batch(
        images=shape(*image_hw, 3, dtype=jnp.uint8),
        image_hw=shape(2),
        scale_hw=shape(2),
        targets=Targets(shape(SLOTS, 4), shape(SLOTS, dtype=jnp.int32), shape(SLOTS, dtype=jnp.bool_)),
        index=shape(dtype=jnp.int32),
    )
