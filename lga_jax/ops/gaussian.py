"""Gaussian attention masks (paper section III-B-1)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

CLOSE_UP_REACH = 1.5  # half the side of a close-up of a mask, sigmas


def gaussian_masks(
    centres: Float[Array, "*n 2"], sigmas: Float[Array, "*n 2"], size: int
) -> Float[Array, "*n {size} {size}"]:
    """exp(-(dx^2 / 2 sx^2 + dy^2 / 2 sy^2)) at the cell centres of a size x size grid, peak 1.

    centres and sigmas are (x, y) in cells; cell i covers [i, i + 1] and its centre is i + 0.5. Differentiable in both.
    """
    cells = jnp.arange(size) + 0.5
    # exp(-a - b) = exp(-a) exp(-b): 2 s exponentials instead of s^2.
    profile = jnp.exp(-0.5 * ((cells - centres[..., None]) / sigmas[..., None]) ** 2)  # [*n, (x, y), s]
    return profile[..., 1, :, None] * profile[..., 0, None, :]
