"""Attention of a plain Vision Transformer, cell by cell: a cell's mates are those whose window has its number."""

import numpy as np


def attention(x: np.ndarray, params: dict, heads: int, window: int) -> np.ndarray:
    """[h w c] -> [h w c]. `window`: side of a window; 0: all cells. Zeros complete the windows."""
    height, width, channels = x.shape
    side = window or max(height, width)
    padded = [-(-length // window) * window if window else length for length in (height, width)]
    full = np.zeros((*padded, channels))
    full[:height, :width] = x
    qkv = (full @ params["qkv"]["kernel"] + params["qkv"]["bias"]).reshape(*padded, 3, heads, channels // heads)
    cells = [(row, column) for row in range(padded[0]) for column in range(padded[1])]
    result = np.zeros((height, width, channels))
    for row in range(height):
        for column in range(width):
            mates = [cell for cell in cells if cell[0] // side == row // side and cell[1] // side == column // side]
            for head in range(heads):
                scores = np.array([qkv[row, column, 0, head] @ qkv[*mate, 1, head] for mate in mates])
                weights = np.exp((scores - scores.max()) / np.sqrt(channels // heads))
                values = np.array([qkv[*mate, 2, head] for mate in mates])
                place = slice(head * channels // heads, (head + 1) * channels // heads)
                result[row, column, place] = weights @ values / weights.sum()
    return result @ params["project"]["kernel"] + params["project"]["bias"]
