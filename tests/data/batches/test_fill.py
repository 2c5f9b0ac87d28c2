"""An image and its boxes in a row of a batch."""

import cv2
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.coco import get_config
from lga_jax.data.augment.geometry import KERNELS, fit_hw, resize_hw
from lga_jax.data.augment.view import View, draw_view
from lga_jax.data.augment.window import Window
from lga_jax.data.batches.fill import empty_batch, write_image, write_targets
from lga_jax.data.object_masks import AS_STORED, Bitmap, Polygons, cover
from lga_jax.data.source import Record


def _record(hw: tuple[int, int], boxes: object = (), crowd: object = None) -> Record:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    crowd = np.zeros(len(boxes), bool) if crowd is None else np.array(crowd)
    return Record(0, *hw, boxes, np.arange(len(boxes), dtype=np.int32), crowd)


def test_write_image_lays_out_pixels_and_boxes():
    image = np.random.default_rng(0).integers(1, 255, (10, 20, 3), np.uint8)
    record = _record((10, 20), [[2, 1, 6, 9], [0, 0, 20, 10], [10, 0, 20, 5]], [False, True, False])
    batch = empty_batch(2, (24, 48), slots=3)
    write_image(batch, 1, 77, record, image, View((20, 40), (0, 0), flip=True), "bilinear")
    np.testing.assert_array_equal(batch.image_hw[1], [20, 40])
    np.testing.assert_array_equal(batch.scale_hw[1], [2, 2])
    np.testing.assert_array_equal(batch.targets.boxes[1], [[28, 2, 36, 18], [0, 0, 20, 10], [0, 0, 0, 0]])
    np.testing.assert_array_equal(batch.targets.labels[1], [0, 2, 0])
    np.testing.assert_array_equal(batch.targets.valid[1], [True, True, False])
    np.testing.assert_array_equal(batch.index, [-1, 77])
    np.testing.assert_array_equal(batch.images[1, 0, 0], image[0, -1])  # flipped
    assert batch.images[1, :20, :40].all()
    assert not batch.images[1, 20:].any()
    assert not batch.images[1, :, 40:].any()


def test_rows_without_an_image_are_harmless():
    batch = empty_batch(2, (24, 48), slots=3)
    np.testing.assert_array_equal(batch.image_hw, [[24, 48]] * 2)
    np.testing.assert_array_equal(batch.scale_hw, 1)
    assert not batch.images.any()
    assert not any(leaf.any() for leaf in jax.tree.leaves(batch.targets))


def test_the_images_of_a_batch_lie_where_the_cpu_device_takes_them_without_a_copy():
    for size in range(1, 9):
        images = empty_batch(size, (7, 9), slots=1).images
        assert images.ctypes.data % 64 == 0
        assert images.flags.c_contiguous


def test_a_view_larger_than_the_bucket_is_cropped():
    """x from 8 to 32 and y from 5 to 17 of an image of twice the size is kept, and mirrored."""
    image = np.random.default_rng(0).integers(1, 255, (20, 30, 3), np.uint8)
    boxes = [[5, 3, 10, 8], [0, 0, 30, 20], [0, 0, 4, 20], [0, 0, 30, 2], [15, 8, 29, 9]]
    batch = empty_batch(1, (12, 24), slots=5)
    for flip in (False, True):
        write_image(batch, 0, 0, _record((20, 30), boxes), image, View((40, 60), (5, 8), flip), "bilinear")
        expected = np.array([[2, 1, 12, 11], [0, 0, 24, 12], [22, 11, 24, 12]])
        if flip:
            expected[:, [0, 2]] = 24 - expected[:, [2, 0]]
        np.testing.assert_array_equal(batch.targets.boxes[0], [*expected, [0] * 4, [0] * 4])
        np.testing.assert_array_equal(batch.targets.labels[0, :3], [0, 1, 4])
        np.testing.assert_array_equal(batch.targets.valid[0], [True] * 3 + [False] * 2)
        np.testing.assert_array_equal(batch.image_hw[0], [12, 24])
        np.testing.assert_array_equal(batch.scale_hw[0], [2, 2])  # of the image, not of what is left of it
        batch.targets.boxes[:], batch.targets.valid[:] = 0, False


def test_a_box_too_thin_for_float32_after_the_resize_is_left_out():
    thin = np.nextafter(np.float32(127), np.float32(128))
    batch = empty_batch(1, (210, 210), slots=2)
    record = _record((200, 200), [[127, 0, thin, 50], [1, 1, 2, 2]])
    write_image(batch, 0, 0, record, np.zeros((200, 200, 3), np.uint8), View((210, 210), (0, 0), False), "bilinear")
    np.testing.assert_array_equal(batch.targets.valid[0], [True, False])
    np.testing.assert_array_equal(batch.targets.labels[0], [1, 0])


def test_boxes_without_slots_are_the_smallest_and_order_is_kept():
    sizes = [3, 1, 5, 2, 4]
    record = _record((10, 10), [[0, 0, size, size] for size in sizes])
    batch = empty_batch(1, (10, 10), slots=3)
    write_image(batch, 0, 0, record, np.ones((10, 10, 3), np.uint8), View((10, 10), (0, 0), False), "bilinear")
    np.testing.assert_array_equal(batch.targets.boxes[0, :, 2], [3, 5, 4])
    np.testing.assert_array_equal(batch.targets.labels[0], [0, 2, 4])


def test_of_boxes_of_one_size_the_first_have_the_slots():
    """Small and large boxes take turns: all 50 large ones are kept, and the first 10 small ones."""
    targets = empty_batch(1, (10, 10), slots=60).targets
    boxes = np.tile(np.array([[0, 0, 3, 3], [0, 0, 5, 5]], np.float32), (50, 1))
    assert write_targets(targets, 0, boxes, np.arange(100, dtype=np.int32)) == 40
    np.testing.assert_array_equal(targets.labels[0], sorted([*range(1, 100, 2), *range(0, 20, 2)]))


def test_targets_take_the_place_of_those_that_were_there():
    targets = empty_batch(2, (10, 10), slots=3).targets
    boxes = np.tile(np.array([1, 2, 3, 4], np.float32), (3, 1))
    for row in (0, 1):
        assert write_targets(targets, row, boxes, np.array([5, 6, 7], np.int32)) == 0
    assert write_targets(targets, 1, boxes[:1], np.array([8], np.int32)) == 0
    np.testing.assert_array_equal(targets.labels, [[5, 6, 7], [8, 0, 0]])
    np.testing.assert_array_equal(targets.valid, [[True] * 3, [True, False, False]])
    np.testing.assert_array_equal(targets.boxes[1, 1:], 0)


def test_an_unreadable_image_is_grey_without_boxes():
    batch = empty_batch(1, (24, 48), slots=1)
    write_image(batch, 0, 3, _record((10, 20), [[0, 0, 5, 5]]), None, View((20, 40), (0, 0), True), "bilinear")
    np.testing.assert_array_equal(batch.images[0, :20, :40], 128)
    assert not batch.images[0, 20:].any()
    assert not batch.targets.valid.any()
    assert batch.index[0] == 3


@given(
    hw=st.tuples(st.integers(5, 60), st.integers(5, 60)),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
    short_edge=st.integers(16, 64),
    flip=st.booleans(),
)
def test_scale_brings_boxes_back_to_original_pixels(hw, corners, short_edge, flip):
    x1, x2 = sorted(np.float32(corner * (hw[1] - 1)) for corner in corners[:2])
    y1, y2 = sorted(np.float32(corner * (hw[0] - 1)) for corner in corners[2:])
    box = [x1, y1, x2 + 1, y2 + 1]
    batch = empty_batch(1, (64, 64), slots=1)
    view = View(fit_hw(resize_hw(hw, short_edge, 96, "nearest"), (64, 64)), (0, 0), flip)
    write_image(batch, 0, 0, _record(hw, [box]), np.zeros((*hw, 3), np.uint8), view, "bilinear")
    expected = [hw[1] - box[2], box[1], hw[1] - box[0], box[3]] if flip else box
    scale = batch.scale_hw[0][[1, 0, 1, 0]]
    np.testing.assert_allclose(batch.targets.boxes[0, 0] / scale, expected, atol=1e-4)
    assert (batch.targets.boxes[0, 0] <= batch.image_hw[0][[1, 0, 1, 0]]).all()


@given(
    corner=st.tuples(st.integers(0, 40), st.integers(0, 60)),
    hw=st.tuples(st.integers(20, 50), st.integers(20, 50)),
    bucket_hw=st.tuples(st.integers(40, 160), st.integers(40, 160)),
    kernel=st.sampled_from(KERNELS),
    seed=st.integers(0, 999),
)
def test_under_jitter_boxes_follow_pixels(corner, hw, bucket_hw, kernel, seed):
    """A bright rectangle is found again where its box says, whatever was drawn; out of sight it has no box."""
    (y, x), (height, width) = corner, hw
    image = np.zeros((90, 110, 3), np.uint8)
    image[y : y + height, x : x + width] = 255
    data = get_config().data
    data.scale_jitter = (0.3, 2.0)
    record = _record((90, 110), [[x, y, x + width, y + height]])
    view = draw_view(np.random.default_rng(seed), record, bucket_hw, data)
    batch = empty_batch(1, bucket_hw, slots=1)
    write_image(batch, 0, 0, record, image, view, kernel)
    bright = batch.images[0, ..., 0] > 127
    (seen,), (box,) = batch.targets.valid[0], batch.targets.boxes[0].tolist()
    if seen and min(box[2] - box[0], box[3] - box[1]) > 2:
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(box, found, atol=1.01)
    elif not seen:
        assert not bright.any()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("as_polygon", [False, True])
def test_a_mask_is_cut_and_turned_with_its_image(flip, as_polygon):
    """A triangle in an image of the same pixels: in its box, the cells show what the image shows."""
    corners = np.array([[4, 2], [26, 4], [10, 18]], np.float32)
    outline = Polygons((corners,))
    pixels = cover(outline, AS_STORED, (20, 30)) > 127
    image = np.repeat(pixels[..., None], 3, axis=2).astype(np.uint8) * 255
    record = _record((20, 30), [[4, 2, 26, 18], [0, 0, 3, 3], [16, 10, 20, 13]])
    masks = [outline if as_polygon else Bitmap(pixels), None, Bitmap(np.ones((2, 2), bool))]
    batch = empty_batch(1, (24, 40), slots=4, mask_side=24)
    write_image(batch, 0, 0, record, image, View((40, 60), (10, 6), flip), "bilinear", masks)
    x1, y1, x2, y2 = batch.targets.boxes[0, 0].astype(int)
    assert (y1, y2) == (0, 24)  # cut above and below
    seen = cv2.resize(batch.images[0, y1:y2, x1:x2, 0], (24, 24), interpolation=cv2.INTER_AREA)
    assert ((seen > 127) != (batch.targets.masks[0, 0] > 127)).mean() < 0.04
    assert ((seen > 127) != (batch.targets.masks[0, 0, :, ::-1] > 127)).mean() > 0.1
    np.testing.assert_array_equal(batch.targets.valid[0], [True, True, False, False])  # the second is cut off
    np.testing.assert_array_equal(batch.targets.has_mask[0], [True, False, False, False])  # the last is not in its box
    assert not batch.targets.masks[0, 1:].any()
    write_targets(batch.targets, 0, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), [])
    assert not any(leaf.any() for leaf in batch.targets if leaf is not None)


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("as_polygon", [False, True])
def test_a_mask_is_turned_within_its_window(turns, as_polygon):
    outline = Polygons((np.array([[4, 2], [26, 4], [10, 18]], np.float32),))
    pixels = cover(outline, AS_STORED, (20, 30)) > 127
    image = np.repeat(pixels[..., None], 3, axis=2).astype(np.uint8) * 255
    batch = empty_batch(1, (60, 60), slots=1, mask_side=24)
    window = Window(1, 2, 18, 27)
    hw = View((0, 0), (0, 0), flip=False, window=window, turns=turns).source_hw((20, 30))
    view = View((2 * hw[0], 2 * hw[1]), (0, 0), flip=True, window=window, turns=turns)
    record = _record((20, 30), [[4, 2, 26, 18]])
    write_image(batch, 0, 0, record, image, view, "bilinear", [outline if as_polygon else Bitmap(pixels)])
    x1, y1, x2, y2 = batch.targets.boxes[0, 0].astype(int)
    seen = cv2.resize(batch.images[0, y1:y2, x1:x2, 0], (24, 24), interpolation=cv2.INTER_AREA)
    assert ((seen > 127) != (batch.targets.masks[0, 0] > 127)).mean() < 0.04


def test_the_verified_classes_of_an_image_stay_when_its_boxes_change():
    batch = empty_batch(3, (24, 40), slots=2, num_listed=3)
    image, view = np.zeros((24, 40, 3), np.uint8), View((24, 40), (0, 0), False)
    record = _record((24, 40), [[4, 2, 20, 18]])
    write_image(batch, 0, 0, record._replace(verified=np.int32([0, 2])), image, view, "bilinear")
    write_image(batch, 1, 1, record, image, view, "bilinear")
    write_image(batch, 2, 2, record, None, view, "bilinear")  # unreadable
    for row in range(3):
        write_targets(batch.targets, row, np.zeros((0, 4), np.float32), np.zeros(0, np.int32))
    np.testing.assert_array_equal(batch.targets.verified, [[True, False, True], [True] * 3, [False] * 3])
    assert empty_batch(1, (24, 40), slots=2).targets.verified is None
