import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lga_jax.ops.gaussian import gaussian_masks


def parameters(seed: int, *shape: int) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.uniform(*span, (*shape, 2)), jnp.float32) for span in ((0, 7), (1, 4)))


value_and_grads = jax.jit(jax.value_and_grad(lambda c, s: gaussian_masks(c, s, 7).sum(), argnums=(0, 1)))


def reference(centre, sigma, size) -> list[list[float]]:
    return [
        [
            math.exp(
                -((x + 0.5 - centre[0]) ** 2) / (2 * sigma[0] ** 2) - (y + 0.5 - centre[1]) ** 2 / (2 * sigma[1] ** 2)
            )
            for x in range(size)
        ]
        for y in range(size)
    ]


def test_by_eye():
    edge, corner = math.exp(-0.5), math.exp(-1)
    expected = [[corner, edge, corner], [edge, 1, edge], [corner, edge, corner]]
    np.testing.assert_allclose(gaussian_masks(jnp.array([1.5, 1.5]), jnp.array([1.0, 1.0]), 3), expected, rtol=1e-6)


def test_x_is_the_column():
    mask = gaussian_masks(jnp.array([2.5, 0.5]), jnp.array([1.0, 1.0]), 3)
    assert np.unravel_index(int(mask.argmax()), (3, 3)) == (0, 2)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_equals_the_reference(wrap):
    centres, sigmas = parameters(0, 3, 2)
    masks = wrap(lambda c, s: gaussian_masks(c, s, 7))(centres, sigmas)
    assert masks.shape == (3, 2, 7, 7)
    for index in np.ndindex(3, 2):
        np.testing.assert_allclose(masks[index], reference(centres[index], sigmas[index], 7), atol=1e-6)


def test_moving_the_centre_by_a_cell_moves_the_mask_by_a_cell():
    centres, sigmas = parameters(1, 4)
    still = gaussian_masks(centres, sigmas, 7)
    moved = gaussian_masks(centres + jnp.array([1.0, 2.0]), sigmas, 7)
    np.testing.assert_allclose(moved[:, 2:, 1:], still[:, :-2, :-1], rtol=1e-4, atol=1e-7)


def test_swapping_the_axes_transposes_the_mask():
    centres, sigmas = parameters(2, 4)
    masks = gaussian_masks(centres, sigmas, 7)
    np.testing.assert_allclose(gaussian_masks(centres[:, ::-1], sigmas[:, ::-1], 7), masks.swapaxes(1, 2), rtol=1e-6)


def test_masks_lie_between_zero_and_one_and_widen_with_sigma():
    centres, sigmas = parameters(3, 20)
    narrow, wide = gaussian_masks(centres, sigmas, 7), gaussian_masks(centres, sigmas + 1, 7)
    assert ((narrow > 0) & (wide <= 1)).all()
    assert (wide >= narrow).all()


@pytest.mark.parametrize("sigma", [1.0, 1e4])
@pytest.mark.parametrize("centre", [0.0, 7.0, -50.0])
def test_extreme_parameters_have_finite_values_and_gradients(centre, sigma):
    value, grads = value_and_grads(jnp.full((1, 2), centre), jnp.full((1, 2), sigma))
    assert jnp.isfinite(value)
    assert all(bool(jnp.isfinite(grad).all()) for grad in grads)


def test_no_masks():
    assert gaussian_masks(jnp.zeros((0, 4, 2)), jnp.ones((0, 4, 2)), 7).shape == (0, 4, 7, 7)


def test_gradients_are_the_derivatives():
    check_grads(
        jax.jit(lambda c, s: gaussian_masks(c, s, 7)), parameters(4, 3), order=1, modes=["rev"], atol=2e-2, rtol=2e-2
    )


def test_the_gradient_pulls_the_centre_towards_what_is_rewarded():
    reward = jax.grad(lambda c: gaussian_masks(c, jnp.ones(2), 7)[1, 5])  # row 1, column 5
    grad = jax.jit(reward)(jnp.array([3.5, 3.5]))
    assert grad[0] > 0
    assert grad[1] < 0
