"""Anchors: reference boxes on a regular grid, one size per pyramid level (FPN section 4.1)."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def base_anchors(size: int | float, aspect_ratios: Sequence[float]) -> Float[np.ndarray, "n 4"]:
    """Boxes of area size**2 around the origin, one per aspect ratio (height / width)."""
    ratios = np.asarray(aspect_ratios, np.float64)
    half_width = 0.5 * size / np.sqrt(ratios)
    half_height = half_width * ratios
    return np.stack([-half_width, -half_height, half_width, half_height], axis=1).astype(np.float32)


def level_anchors(
    feature_hw: tuple[int, int], stride: int, size: int | float, aspect_ratios: Sequence[float]
) -> Float[Array, "a 4"]:
    """Anchors of one level, cell (0, 0) centred on pixel (0, 0) as in Detectron2; order: row, column, aspect ratio."""
    ys = jnp.arange(feature_hw[0], dtype=jnp.float32) * stride
    xs = jnp.arange(feature_hw[1], dtype=jnp.float32) * stride
    y, x = jnp.meshgrid(ys, xs, indexing="ij")
    shifts = jnp.stack([x, y, x, y], axis=-1)
    return (shifts[:, :, None, :] + base_anchors(size, aspect_ratios)).reshape(-1, 4)


def pyramid_anchors(
    features_hw: Sequence[tuple[int, int]],
    strides: Sequence[int],
    sizes: Sequence[int | float],
    aspect_ratios: Sequence[float],
) -> list[Float[Array, "_ 4"]]:
    """Anchors of every level, finest first; `sizes` are in pixels, one per level."""
    return [
        level_anchors(hw, stride, size, aspect_ratios)
        for hw, stride, size in zip(features_hw, strides, sizes, strict=True)
    ]
