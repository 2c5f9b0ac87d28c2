"""A detector small enough to compile in seconds, and a batch with objects for it."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from configs import coco
from lga_jax.models.build import build_detector
from lga_jax.structs import Targets

NUM_CLASSES = 3
IMAGE_HW = (64, 96)


def model_config(**changes):
    config = coco.get_config().model
    config.dtype = "float32"
    config.backbone.update(depth=18, width=8, norm="gn", frozen_stages=0)
    config.fpn.channels = 16
    config.anchors.sizes = (8, 16, 32, 64, 128)
    config.anchor_sampling.num_samples = 32
    config.proposals.update(pre_nms_train=40, pre_nms_test=40, post_nms_train=30, post_nms_test=20)
    config.roi_sampling.num_samples = 16
    config.lga.update(reduced_channels=8, hidden=16, close_up_points=3, close_up_channels=8)
    config.cbam.reduction = 4
    config.box_head.hidden = 32
    config.mask_head.update(num_convs=1, channels=8, crop_size=4)
    config.update(changes)
    return config


def batch(num_images=2):
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (num_images, *IMAGE_HW, 3), dtype=np.uint8)
    boxes = np.zeros((num_images, 4, 4), np.float32)
    boxes[:, 0] = (8, 8, 40, 40)
    boxes[:, 1] = (50, 20, 90, 60)
    valid = np.array([[True, True, False, False]] * num_images)
    labels = np.array([[0, 2, 0, 0]] * num_images, np.int32)
    image_hw = np.full((num_images, 2), IMAGE_HW, np.float32)
    return jax.tree.map(jnp.asarray, (images, image_hw, Targets(boxes, labels, valid)))


def with_masks(targets):
    """The same targets; every object covers the left half of its box."""
    masks = np.zeros((*targets.valid.shape, 8, 8), np.uint8)
    masks[..., :4] = 255
    return targets._replace(masks=jnp.asarray(masks), has_mask=targets.valid)


def built(config=None, num_images=2):
    """Detector, initial variables, inputs and keys."""
    return built_of(build_detector(config or model_config(), NUM_CLASSES), num_images)


def built_of(detector, num_images=2):
    """The same of a detector."""
    images, image_hw, targets = batch(num_images)
    if detector.mask_head is not None:
        targets = with_masks(targets)
    keys = jax.random.split(jax.random.key(1), num_images)
    variables = jax.jit(detector.init)(jax.random.key(0), images, image_hw, targets, keys)
    return SimpleNamespace(
        detector=detector, variables=variables, images=images, image_hw=image_hw, targets=targets, keys=keys
    )


def shapes(config, image_hw=(256, 256), num_images=1, train=True):
    """Parameter and output shapes without computing anything."""
    detector = build_detector(config, NUM_CLASSES)
    image = jax.ShapeDtypeStruct((num_images, *image_hw, 3), jnp.uint8)
    content = jax.ShapeDtypeStruct((num_images, 2), jnp.float32)
    slots = (num_images, 5)
    targets = Targets(
        jax.ShapeDtypeStruct((*slots, 4), jnp.float32),
        jax.ShapeDtypeStruct(slots, jnp.int32),
        jax.ShapeDtypeStruct(slots, jnp.bool_),
    )
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), num_images))
    variables = jax.eval_shape(detector.init, jax.eval_shape(lambda: jax.random.key(0)), image, content, targets, keys)
    arguments = (targets, keys) if train else ()
    outputs = jax.eval_shape(
        lambda v, *a: detector.apply(v, *a, mutable=["batch_stats"])[0], variables, image, content, *arguments
    )
    return variables, outputs
