"""Anchors: reference boxes on a regular grid, one size per pyramid level (FPN section 4.1)."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def base_anchors(size: int | float, aspect_ratios: Sequence[float], rounded: bool) -> Float[np.ndarray, "n 4"]:
    """Boxes of area size**2 around the origin, one per aspect ratio (height / width).

    `rounded` moves the corners to whole pixels, as torchvision does.
    """
    ratios = np.asarray(aspect_ratios, np.float64)
    half_width = 0.5 * size / np.sqrt(ratios)
    half_height = half_width * ratios
    boxes = np.stack([-half_width, -half_height, half_width, half_height], axis=1)
    return (boxes.round() if rounded else boxes).astype(np.float32)


def level_anchors(
    feature_hw: tuple[int, int], stride_hw: tuple[int, int], base: Float[np.ndarray, "n 4"]
) -> Float[Array, "a 4"]:
    """`base` shifted to every cell of a level, cell (0, 0) at pixel (0, 0); order: row, column, base anchor."""
    ys = jnp.arange(feature_hw[0], dtype=jnp.float32) * stride_hw[0]
    xs = jnp.arange(feature_hw[1], dtype=jnp.float32) * stride_hw[1]
    y, x = jnp.meshgrid(ys, xs, indexing="ij")
    shifts = jnp.stack([x, y, x, y], axis=-1)
    return (shifts[:, :, None, :] + base).reshape(-1, 4)


def pyramid_anchors(
    image_hw: tuple[int, int],
    features_hw: Sequence[tuple[int, int]],
    strides: Sequence[int],
    *,
    sizes: Sequence[int | float],
    aspect_ratios: Sequence[float],
    rounded: bool,
    fixed_stride: bool,
) -> list[Float[Array, "_ 4"]]:
    """Anchors of every level, finest first; `sizes` are in pixels, one per level, `image_hw` is the padded input.

    The distance between cells is the level's stride, or without `fixed_stride`, image side // feature side as in
    torchvision. The two differ if the level's size was rounded up: with image height 800, P6 has 13 rows, 61 pixels
    apart instead of 64.
    """
    levels = []
    for hw, stride, size in zip(features_hw, strides, sizes, strict=True):
        stride_hw = (stride, stride) if fixed_stride else (image_hw[0] // hw[0], image_hw[1] // hw[1])
        levels.append(level_anchors(hw, stride_hw, base_anchors(size, aspect_ratios, rounded)))
    return levels
