"""Parts of the training step alone, for compilers that take too long for all of it."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from benchmarks.accelerators.programs import NUM_CLASSES, batch_shapes
from lga_jax.models.build import build_detector
from lga_jax.models.fpn import pyramid_strides
from lga_jax.models.rpn import sample_anchors, select_proposals
from lga_jax.ops.anchors import pyramid_anchors
from lga_jax.ops.roi_align import multilevel_roi_align
from lga_jax.structs import Batch


def roi_align(config: ConfigDict, num_images: int, image_hw: tuple[int, int]) -> tuple[Callable, tuple]:
    """The crops of the pyramid and their gradient."""
    detector = build_detector(config.model, NUM_CLASSES)
    strides = detector.backbone.strides
    align = jax.vmap(functools.partial(multilevel_roi_align, strides=strides, **config.model.roi_align))
    channels, count = config.model.fpn.channels, config.model.roi_sampling.num_samples
    maps = [
        jax.ShapeDtypeStruct((num_images, *_cells(image_hw, stride), channels), detector.dtype) for stride in strides
    ]
    boxes = jax.ShapeDtypeStruct((num_images, count, 4), jnp.float32)
    crops = jax.ShapeDtypeStruct((num_images, count, *[config.model.roi_align.crop_size] * 2, channels), detector.dtype)

    def run(_: Any, inputs: tuple) -> Any:
        maps, boxes, cotangent = inputs
        found, pull = jax.vjp(lambda maps: align(maps, boxes), maps)
        return found, pull(cotangent)

    return run, ((), (maps, boxes, crops))


def proposals(config: ConfigDict, num_images: int, image_hw: tuple[int, int]) -> tuple[Callable, tuple]:
    """The selection of proposals from the outputs of the RPN."""
    anchors, rule = _anchors(config, image_hw), config.model.proposals
    select = functools.partial(
        select_proposals,
        pre_nms=rule.pre_nms_train,
        post_nms=rule.post_nms_train,
        nms_iou=rule.nms_iou,
        min_size=rule.min_size,
    )
    levels = [len(level) for level in anchors]

    def floats(*sides: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((num_images, *sides), jnp.float32)

    def run(_: Any, inputs: tuple) -> Any:
        return jax.vmap(lambda scores, deltas, hw: select(scores, deltas, anchors, hw))(*inputs)

    return run, ((), ([floats(n) for n in levels], [floats(n, 4) for n in levels], floats(2)))


def matching(config: ConfigDict, num_images: int, image_hw: tuple[int, int]) -> tuple[Callable, tuple]:
    """Matching and sampling of the anchors."""
    anchors = jnp.concatenate(_anchors(config, image_hw))

    def run(_: Any, batch: Batch) -> Any:
        keys = jax.random.split(jax.random.key(0), num_images)
        sample = functools.partial(sample_anchors, **config.model.anchor_sampling)
        return jax.vmap(lambda key, truth: sample(key, anchors, truth))(keys, batch.targets)

    return run, ((), batch_shapes(num_images, image_hw))


def _cells(image_hw: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-image_hw[0] // stride), -(-image_hw[1] // stride)


def _anchors(config: ConfigDict, image_hw: tuple[int, int]) -> list[jax.Array]:
    strides = pyramid_strides(build_detector(config.model, NUM_CLASSES).backbone.strides)
    return pyramid_anchors(image_hw, [_cells(image_hw, stride) for stride in strides], strides, **config.model.anchors)
