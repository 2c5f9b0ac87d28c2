"""The mask of an object in its image, pixel by pixel."""

import math

import numpy as np


def paste(mask: np.ndarray, box: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """The probability of every pixel: bilinear between the centres of the cells, 0 beyond them and outside the box."""
    x1, y1, x2, y2 = box.tolist()
    found = np.zeros(hw)
    for y in range(max(0, math.floor(y1)), min(hw[0], math.ceil(y2))):
        for x in range(max(0, math.floor(x1)), min(hw[1], math.ceil(x2))):
            u = (x + 0.5 - x1) / (x2 - x1) * mask.shape[1] - 0.5
            v = (y + 0.5 - y1) / (y2 - y1) * mask.shape[0] - 0.5
            found[y, x] = _bilinear(mask, u, v)
    return found


def _bilinear(mask: np.ndarray, u: float, v: float) -> float:
    left, top = math.floor(u), math.floor(v)
    total = 0.0
    for row, row_weight in ((top, 1 - (v - top)), (top + 1, v - top)):
        for column, weight in ((left, 1 - (u - left)), (left + 1, u - left)):
            if 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]:
                total += row_weight * weight * mask[row, column]
    return total
