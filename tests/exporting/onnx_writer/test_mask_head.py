"""The masks of detections, as the module computes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.models.roi.mask_head import MaskHead
from tests.exporting.onnx_writer.running import channels_first, close, run, variables_of, weights_of

RNG = np.random.default_rng(0)
MAPS = [RNG.normal(size=(1, 400 // stride, 300 // stride, 16)).astype(np.float32) for stride in (4, 8, 16, 32)]


@pytest.mark.parametrize("norm", ["none", "bn"])
def test_each_detection_gets_the_mask_of_its_class_in_its_slot(norm):
    from lga_jax.exporting.onnx_writer.mask_head import object_masks
    from lga_jax.exporting.onnx_writer.selection import Found

    module = MaskHead(
        num_convs=1,
        channels=8,
        norm=norm,
        roi_align=dict(crop_size=4, sampling_ratio=2, aligned=True),
        strides=(4, 8, 16, 32),
        num_slots=4,
        num_classes=3,
    )
    corner = RNG.uniform(0, 100, (7, 2))
    sides = np.array([300, 20, 150, 10, 250, 90, 200])[:, None] * RNG.uniform(0.8, 1.2, (7, 2))  # of several levels
    boxes = np.concatenate([corner, corner + sides], axis=1).astype(np.float32)
    labels, valid = np.array([0, 2, 1, 1, 0, 2, 0]), np.arange(7) < 6
    inputs = [jnp.asarray(x) for x in MAPS], jnp.asarray(boxes[None]), jnp.asarray(labels[None])
    variables = variables_of(module, *inputs, False)
    wanted = jax.nn.sigmoid(jax.jit(lambda v: module.apply(v, *inputs, False))(variables))[0]

    def masks(boxes, labels, valid, *maps):
        return object_masks(maps, Found(boxes, None, labels, None, valid), module, weights_of(variables))

    found = run(masks, boxes, labels, valid, *map(channels_first, MAPS))
    close(found[:6], wanted[:6], 1e-4)
    half = run(masks, boxes, labels, valid, *(channels_first(x).astype(np.float16) for x in MAPS))
    assert half.dtype == np.float32 and np.abs(half - found).max() < 0.01
    assert not found[6].any() and np.ptp(wanted) > 0.1
