"""Heat maps of the centres: read from the network, and described."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.models.build import init_variables
from lga_jax.structs import Batch, Targets
from studies.attention.heat_maps import describe_heat_maps, heat_maps
from tests.studies.attention.tiny import detector_of


def hot_at(*places, side=7):
    """A heat map with equal heat at the given (x, y) cells and none elsewhere, [1 s s 1]."""
    heat = np.zeros((1, side, side, 1))
    for x, y in places:
        heat[0, y, x, 0] = 1 / len(places)
    return heat


def test_one_place():
    found = describe_heat_maps(hot_at((6, 0)), np.array([[[6.5, 0.5]]]))
    assert found["cells"] == [1.0] and found["far"] == [0.0] and found["in_corner"] == [1.0]
    assert found["peak_to_centre"] == [0.0]
    assert found["centre_to_middle"] == [pytest.approx(3 * 2**0.5, abs=1e-3)]


def test_two_corners_with_a_centre_between_them():
    found = describe_heat_maps(hot_at((0, 0), (6, 6)), np.array([[[3.5, 3.5]]]))
    assert found["cells"] == [2.0] and found["far"] == [0.5] and found["in_corner"] == [1.0]
    assert found["peak_to_centre"] == [pytest.approx(3 * 2**0.5, abs=1e-3)]
    assert found["centre_to_middle"] == [0.0]


def test_a_place_at_an_edge_is_not_in_a_corner():
    assert describe_heat_maps(hot_at((3, 0)), np.zeros((1, 1, 2)))["in_corner"] == [0.0]


def test_the_heat_maps_of_the_network_have_its_centres_as_their_means():
    detector = detector_of("lga")
    variables = init_variables(detector, 0)
    boxes = jnp.array([[[[4.0, 4.0, 40.0, 60.0], [8.0, 0.0, 30.0, 20.0]]]])
    batch = Batch(
        images=jax.random.randint(jax.random.key(1), (1, 1, 64, 64, 3), 0, 256).astype(jnp.uint8),
        image_hw=jnp.full((1, 1, 2), 64.0),
        scale_hw=jnp.ones((1, 1, 2)),
        targets=Targets(boxes, jnp.zeros((1, 1, 2), jnp.int32), jnp.array([[[True, False]]])),
        index=jnp.zeros((1, 1), jnp.int32),
    )
    heat, centres = heat_maps(detector, variables, [batch])
    assert heat.shape == (1, 7, 7, 4) and centres.shape == (1, 4, 2)  # only the true box
    np.testing.assert_allclose(heat.sum(axis=(1, 2)), 1.0, rtol=1e-5)
    cells = (2 * np.arange(7) + 1) / 7 - 1
    mean = np.stack([(heat * cells[:, None]).sum((1, 2)), (heat * cells[:, None, None]).sum((1, 2))], axis=-1)
    stretch = variables["params"]["attention"]["centres"]["stretch"]
    np.testing.assert_allclose(centres, 3.5 * (1 + np.tanh(stretch * mean)), rtol=1e-4)
