import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.models.roi.attention.deformable import DeformablePooling, cell_points
from lga_jax.models.roi.crops import Levels, RoICrops
from tests.models.roi.test_crops import BOXES, MAPS

FEATURES = RoICrops(Levels(MAPS), BOXES, (4, 8, 16), dict(crop_size=3, sampling_ratio=2, aligned=True))


def block(**changes):
    return DeformablePooling(**dict(hidden=8, scale=0.1, samples=2, modulated=True) | changes)


def test_points_of_the_cells():
    assert cell_points(2, 1).tolist() == [[[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]]
    points = cell_points(3, 2)
    assert points.shape == (4, 9, 2)
    np.testing.assert_allclose(points.mean(axis=0), cell_points(3, 1)[0], rtol=1e-6)


@pytest.mark.parametrize("modulated", [False, True])
def test_it_starts_as_roi_align(modulated):
    attention, _ = block(modulated=modulated).init_with_output(jax.random.key(0), FEATURES, False)
    np.testing.assert_allclose(attention.fused, FEATURES("pyramid"), rtol=1e-5)
    assert attention.gaussians is None and attention.guide_logits is None


def test_an_offset_moves_its_cell_by_a_share_of_the_box():
    variables = block().init(jax.random.key(0), FEATURES, False)
    bias = jnp.zeros(18).at[2 * 4].set(1.0)  # x of the middle cell
    gates = jnp.zeros(9).at[0].set(-50.0)
    params = variables["params"]
    params = params | {"offsets": params["offsets"] | {"bias": bias}, "gates": params["gates"] | {"bias": gates}}
    moved = np.array(block().apply({"params": params}, FEATURES, False).fused - FEATURES("pyramid"))
    np.testing.assert_allclose(
        moved[0, :, 0, 0], -np.asarray(FEATURES("pyramid"))[0, :, 0, 0], rtol=1e-5
    )  # its weight is 0
    np.testing.assert_allclose(moved[0, :, 1, 1, 0], [1.6, 25.0], rtol=1e-4)
    moved[0, :, [0, 1], [0, 1]] = 0
    np.testing.assert_allclose(moved, 0, atol=1e-3)


def test_gradients_reach_the_offsets_and_the_weights():
    variables = block().init(jax.random.key(0), FEATURES, False)
    gradient = jax.grad(lambda v: jnp.square(block().apply(v, FEATURES, False).fused).sum())(variables)["params"]
    assert np.count_nonzero(gradient["offsets"]["bias"]) == 18 and np.count_nonzero(gradient["gates"]["bias"]) == 9
    assert not np.any(gradient["hidden"]["kernel"])  # its outputs are multiplied by zero at the start
