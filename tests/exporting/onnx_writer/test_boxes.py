"""Box algebra is that of lga_jax.ops.boxes."""

import jax.numpy as jnp
import numpy as np

from lga_jax.exporting.onnx_writer.boxes import clip, decode, shortest_side
from lga_jax.ops import boxes as box_ops
from tests.exporting.onnx_writer.running import close, run


def test_decode_clip_and_sides():
    rng = np.random.default_rng(0)
    anchors = rng.uniform(0, 50, (20, 2)).astype(np.float32)
    anchors = np.concatenate([anchors, anchors + rng.uniform(1, 40, (20, 2))], axis=1).astype(np.float32)
    deltas = rng.normal(0, 3, (20, 4)).astype(np.float32)  # some above the largest allowed ratio
    hw, weights = np.float32([60, 80]), (10.0, 10.0, 5.0, 5.0)
    decoded = box_ops.decode(jnp.asarray(deltas), jnp.asarray(anchors), weights)
    clipped = np.asarray(box_ops.clip(decoded, jnp.asarray(hw)))

    def both(deltas, anchors, limit):
        boxes = decode(deltas, anchors, weights)
        return boxes, clip(boxes, limit), shortest_side(clip(boxes, limit))

    found = run(both, deltas, anchors, np.float32([80, 60, 80, 60]))
    close(found[0], decoded)
    close(found[1], clipped)
    close(found[2], (clipped[:, 2:] - clipped[:, :2]).min(axis=1), 1e-4)
