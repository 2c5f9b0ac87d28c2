"""What an attention gets from the feature maps."""

import jax
import jax.numpy as jnp
import numpy as np

from lga_jax.models.roi.crops import Levels, RoICrops

ALIGN = dict(crop_size=2, sampling_ratio=1, aligned=True)
BOXES = jnp.array([[[4.0, 8.0, 20.0, 40.0], [0.0, 0.0, 250.0, 250.0]]])


def ramp(side, stride):
    y, x = np.mgrid[:side, :side]
    return jnp.asarray(np.stack([x + 0.5, y + 0.5, np.full((side, side), stride)], axis=-1)[None] * stride, jnp.float32)


MAPS = [ramp(64, 4), ramp(32, 8), ramp(16, 16)]
CROPS = RoICrops(Levels(MAPS), BOXES, (4, 8, 16), ALIGN)


def test_points_at_the_cells_of_a_crop_equal_roi_align():
    places = jnp.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
    found = CROPS.points("pyramid", jnp.broadcast_to(places, (1, 2, 4, 2)))
    np.testing.assert_allclose(found.reshape(1, 2, 2, 2, 3), CROPS("pyramid"), rtol=1e-5)
    np.testing.assert_allclose(found[0, 0, 0, :2], [8.0, 16.0], rtol=1e-6)
    assert [stride**0.5 for stride in found[0, :, 0, 2].tolist()] == [4, 16]


def test_finer_levels_are_read_as_far_as_there_are_any():
    middle = jnp.full((1, 2, 1, 2), 0.5)
    levels = [np.sqrt(CROPS.points("pyramid", middle, finer)[0, :, 0, 2]).tolist() for finer in (0, 1, 5)]
    assert levels == [[4, 16], [4, 8], [4, 4]]


def test_positions_have_a_gradient_and_boxes_have_none():
    def total(positions, boxes):
        return RoICrops(Levels(MAPS), boxes, (4, 8, 16), ALIGN).points("pyramid", positions)[..., 0].sum()

    gradient, nothing = jax.grad(total, (0, 1))(jnp.full((1, 2, 1, 2), 0.5), BOXES)
    np.testing.assert_allclose(gradient[0, :, 0], [[16, 0], [250, 0]], rtol=1e-5)  # x grows by the width of the box
    assert not nothing.any()
