"""Crops and points of RoIs are those of the library, put into the order of the levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.exporting.onnx_writer import roi_features
from lga_jax.exporting.onnx_writer.roi_features import RoIFeatures
from lga_jax.models.roi.crops import Levels, RoICrops
from tests.exporting.onnx_writer.running import channels_first, close, run

RNG = np.random.default_rng(0)
STRIDES = (4, 8, 16)
MAPS = [RNG.normal(size=(1, 400 // stride, 300 // stride, 3)).astype(np.float32) for stride in STRIDES]
JAX_MAPS = [jnp.asarray(x) for x in MAPS]
# Sides on both sides of the limits between levels (112 and 224 pixels), degenerate boxes and boxes at the border.
BOXES = np.float32(
    [[10, 10, 122, 122], [10, 10, 121, 122], [5, 5, 229, 229], [0, 0, 300, 400], [250, 350, 300, 400],
     [20, 30, 20, 30], [0, 0, 0, 0], [7, 9, 8, 300], [100, 120, 160, 150]]
)  # fmt: skip


@pytest.mark.parametrize(("ratio", "aligned"), [(2, True), (0, True), (0, False)])
def test_crops(ratio, aligned):
    rule = dict(crop_size=7, sampling_ratio=ratio, aligned=aligned)
    crops = jax.jit(lambda: RoICrops(Levels(JAX_MAPS), jnp.asarray(BOXES[None]), STRIDES, rule)("pyramid"))()

    def both(boxes, *maps):
        features = RoIFeatures(roi_features.Levels(maps), boxes, STRIDES, rule)
        return features.order, features.boxes, features.crops()

    order, boxes, found = run(both, BOXES, *map(channels_first, MAPS))
    np.testing.assert_array_equal(order, [1, 4, 5, 6, 7, 8, 0, 2, 3])
    np.testing.assert_array_equal(boxes, BOXES[order])
    close(found, channels_first(crops)[0][order], 1e-4)


@pytest.mark.parametrize(("level", "finer", "factor"), [("pyramid", 0, 1.0), ("c2", 1, 3.0)])
def test_points(level, finer, factor):
    rule = dict(crop_size=7, sampling_ratio=2, aligned=True)
    positions = RNG.uniform(-0.5, 1.5, (len(BOXES), 5, 2)).astype(np.float32)  # some outside the map
    c2 = RNG.normal(size=(1, 101, 75, 4)).astype(np.float32)
    there = RoICrops(Levels(JAX_MAPS, jnp.asarray(c2)), jnp.asarray(BOXES[None]), STRIDES, rule)
    read = jax.jit(lambda positions: there.points(level, positions, finer, lambda x: x * factor))
    expected = read(jnp.asarray(positions[None]))[0]

    def points(boxes, positions, c2, *maps):
        features = RoIFeatures(roi_features.Levels(maps, c2), boxes, STRIDES, rule)
        return features.order, features.points(level, positions.gather(features.order), finer, lambda x: x * factor)

    order, found = run(points, BOXES, positions, *map(channels_first, [c2, *MAPS]))
    close(found.transpose(0, 2, 1), expected[order], 1e-3)
