"""The true mask of an object inside another box."""

import jax
import jax.numpy as jnp
import numpy as np

from lga_jax.ops.mask_targets import mask_targets
from tests.reference.roi_align import roi_align


def targets(masks, truth, boxes, matched=None, size=4, aligned=True):
    matched = np.zeros(len(boxes), np.int32) if matched is None else matched
    arguments = (jnp.uint8(masks), jnp.float32(truth), jnp.float32(boxes), jnp.int32(matched))
    return np.asarray(jax.jit(lambda *a: mask_targets(*a, mask_size=size, aligned=aligned))(*arguments))


LEFT_HALF = np.zeros((1, 64, 64), np.uint8)
LEFT_HALF[:, :, :32] = 255


def test_a_box_sees_the_part_of_the_mask_that_lies_in_it():
    """The object covers the left half of (0, 0, 80, 40)."""
    boxes = [[0, 0, 80, 40], [20, 0, 60, 40], [0, 0, 40, 20], [60, 0, 80, 40], [-80, 0, 80, 40]]
    found = targets(LEFT_HALF, [[0, 0, 80, 40]], boxes, size=4)
    rows = [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 0]]
    np.testing.assert_allclose(found, np.broadcast_to(np.array(rows)[:, None], (5, 4, 4)), atol=0.04)


def test_every_box_gets_the_mask_of_its_object():
    masks = np.concatenate([LEFT_HALF, 255 - LEFT_HALF])
    found = targets(masks, [[0, 0, 40, 40], [100, 0, 140, 40]], [[100, 0, 140, 40], [0, 0, 40, 40]], [1, 0], size=2)
    np.testing.assert_allclose(found[:, 0], [[0, 1], [1, 0]], atol=0.02)


def test_it_is_roi_align_of_the_mask_with_zeros_around():
    random = np.random.default_rng(0)
    masks = random.integers(0, 256, (3, 8, 8), dtype=np.uint8)
    truth = np.float32([[4, 6, 20, 22], [10, 0, 50, 60], [3, 3, 11, 19]])
    matched = random.integers(0, 3, 10)
    own = truth[matched]
    sides = np.tile(own[:, 2:] - own[:, :2], 2)
    boxes = own + sides * random.uniform(-0.3, 0.3, (10, 4))
    found = targets(masks, truth, boxes, matched, size=5)
    cells = (boxes - np.tile(own[:, :2], 2)) / sides * 8 + 8  # in the mask with 8 rows and columns of zeros around
    around = np.pad(masks / 255.0, ((0, 0), (8, 8), (8, 8)))
    for one in range(10):
        wanted = roi_align(around[matched[one]][..., None], cells[one], 1, 5, 4, True)
        np.testing.assert_allclose(found[one], wanted[..., 0], atol=1e-5)


def test_without_alignment_the_mask_is_read_half_a_pixel_further():
    random = np.random.default_rng(1)
    masks, truth = random.integers(0, 256, (1, 8, 8)), np.float32([[0, 0, 20, 30]])
    boxes = np.float32([[2, 1, 18, 33], [0, 0, 20, 30]])
    np.testing.assert_allclose(
        targets(masks, truth, boxes, aligned=False), targets(masks, truth, boxes + 0.5), atol=1e-6
    )


def test_empty_boxes_have_finite_masks():
    found = targets(LEFT_HALF, [[5, 5, 5, 5]], [[5, 5, 5, 5], [0, 0, 10, 10], [0, 0, 0, 0]])
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
