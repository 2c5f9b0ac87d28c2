"""Attention of Swin Transformers, cell by cell: windows are found by the position of a cell, nothing is rolled."""

import numpy as np


def window_attention(x: np.ndarray, params: dict, heads: int, version: int, side: int, shift: int) -> np.ndarray:
    """[h w c] -> [h w c]. `shift`: cells by which the windows lie lower and further right."""
    height, width, channels = x.shape
    padded = [-(-length // side) * side for length in (height, width)]
    moved = [shift if length > side else 0 for length in padded]
    full = np.zeros((*padded, channels))
    full[:height, :width] = x
    bias = params["qkv"]["bias"].copy()
    if version == 2:
        bias[channels : 2 * channels] = 0.0
    qkv = (full @ params["qkv"]["kernel"] + bias).reshape(*padded, 3, heads, channels // heads)
    cells = [(row, column) for row in range(padded[0]) for column in range(padded[1])]
    result = np.zeros((height, width, channels))
    for row, column in cells:
        if row >= height or column >= width:
            continue
        mates = [cell for cell in cells if _window(cell, moved, side) == _window((row, column), moved, side)]
        for head in range(heads):
            query = qkv[row, column, 0, head]
            scores = [
                _score(query, qkv[*mate, 1, head], params, head, version)
                + _bias((row - mate[0], column - mate[1]), params, head, version, side)
                for mate in mates
            ]
            weights = np.exp(np.array(scores) - max(scores))
            values = np.array([qkv[*mate, 2, head] for mate in mates])
            place = slice(head * channels // heads, (head + 1) * channels // heads)
            result[row, column, place] = weights @ values / weights.sum()
    return result @ params["project"]["kernel"] + params["project"]["bias"]


def _window(cell: tuple[int, int], moved: list[int], side: int) -> tuple[int, ...]:
    """The windows at the border are cut off by the shift; they are not joined to those of the other border."""
    return tuple((position + side - shift) // side for position, shift in zip(cell, moved, strict=True))


def _score(query: np.ndarray, key: np.ndarray, params: dict, head: int, version: int) -> float:
    if version == 1:
        return query @ key / np.sqrt(query.size)
    cosine = query @ key / max(np.linalg.norm(query) * np.linalg.norm(key), 1e-12)
    return cosine * np.exp(min(float(params["logit_scale"][head, 0, 0]), np.log(100.0)))


def _bias(distance: tuple[int, int], params: dict, head: int, version: int, side: int) -> float:
    if version == 1:
        number = (distance[0] + side - 1) * (2 * side - 1) + distance[1] + side - 1
        return params["bias_table"][number, head]
    scaled = 8.0 * np.array(distance) / (side - 1)
    coordinates = np.sign(scaled) * np.log2(1.0 + np.abs(scaled)) / np.log2(8.0)
    hidden = np.maximum(coordinates @ params["bias_expand"]["kernel"] + params["bias_expand"]["bias"], 0.0)
    return 16.0 / (1.0 + np.exp(-(hidden @ params["bias_project"]["kernel"])[head]))
