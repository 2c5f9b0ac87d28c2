import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.ops import anchors as ops
from tests.reference import anchors as reference

IMAGE_HW = (18, 24)  # not a multiple of the last stride: there the two grids differ
FEATURES_HW = ((5, 6), (3, 3), (2, 2))
STRIDES = (4, 8, 16)
RATIOS = (0.5, 1.0, 2.0)
OPTIONS = dict(sizes=(32.0, 64.0, 128.0), aspect_ratios=RATIOS, rounded=False, fixed_stride=True)


BASE = ops.base_anchors(32.0, RATIOS, rounded=False)


def test_base_anchors_by_eye():
    # Height / width: 1/4 is wide, 1 is square, 4 is tall; all have area 16 x 16.
    expected = [[-16, -4, 16, 4], [-8, -8, 8, 8], [-4, -16, 4, 16]]
    np.testing.assert_allclose(ops.base_anchors(16.0, (0.25, 1.0, 4.0), rounded=False), expected)
    assert ops.base_anchors(32.0, (0.5,), rounded=True).tolist() == [[-23, -11, 23, 11]]  # 45.25 x 22.63


def test_order_is_row_column_ratio_and_cell_zero_is_centred_on_pixel_zero():
    anchors = ops.level_anchors((2, 3), (8, 8), ops.base_anchors(16.0, (1.0, 4.0), rounded=False))
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    expected = [[x, y] for y in (0, 8) for x in (0, 8, 16) for _ in range(2)]
    np.testing.assert_allclose(centres, expected)
    np.testing.assert_allclose(anchors[:2], [[-8, -8, 8, 8], [-4, -16, 4, 16]])


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("fixed_stride", [False, True])
def test_pyramid_equals_the_reference(wrap, rounded, fixed_stride):
    options = {**OPTIONS, "rounded": rounded, "fixed_stride": fixed_stride}
    anchors = jnp.concatenate(wrap(lambda: ops.pyramid_anchors(IMAGE_HW, FEATURES_HW, STRIDES, **options))())
    expected = reference.pyramid_anchors(IMAGE_HW, FEATURES_HW, STRIDES, **options)
    np.testing.assert_allclose(anchors, expected, atol=1e-4)


def test_a_larger_map_only_adds_anchors():
    small, large = (np.asarray(ops.level_anchors(hw, (8, 8), BASE)) for hw in ((2, 3), (4, 5)))
    np.testing.assert_array_equal(large.reshape(4, 5, 3, 4)[:2, :3], small.reshape(2, 3, 3, 4))


def test_every_anchor_has_the_area_and_ratio_asked_for():
    anchors = np.asarray(ops.level_anchors((2, 2), (8, 8), BASE))
    width, height = (anchors[:, 2:] - anchors[:, :2]).T
    np.testing.assert_allclose(width * height, 32.0**2, rtol=1e-5)
    np.testing.assert_allclose(height / width, RATIOS * 4, rtol=1e-5)


def test_an_empty_map_has_no_anchors():
    assert ops.level_anchors((0, 3), (8, 8), BASE).shape == (0, 4)


def test_levels_sizes_and_strides_must_agree():
    with pytest.raises(ValueError, match="zip"):
        ops.pyramid_anchors(IMAGE_HW, FEATURES_HW, STRIDES, **{**OPTIONS, "sizes": (32.0, 64.0)})
