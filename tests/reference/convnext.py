"""A block of ConvNeXt, as in the paper's figure 4, with loops."""

import math

import numpy as np


def block(x: np.ndarray, params: dict) -> np.ndarray:
    y = _depthwise(x, params["depthwise"]["kernel"][:, :, 0], params["depthwise"]["bias"])
    y = layer_norm(y, params["norm"])
    y = y @ params["expand"]["kernel"] + params["expand"]["bias"]
    y = y * 0.5 * (1.0 + np.vectorize(math.erf)(y / math.sqrt(2.0)))
    return x + params["layer_scale"] * (y @ params["project"]["kernel"] + params["project"]["bias"])


def layer_norm(x: np.ndarray, params: dict) -> np.ndarray:
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * params["scale"] + params["bias"]


def _depthwise(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
    result = np.zeros(x.shape)
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            window = padded[:, row : row + 7, column : column + 7]
            result[:, row, column] = (window * kernel).sum(axis=(1, 2)) + bias
    return result
