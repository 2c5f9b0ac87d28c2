"""Convolution, one output at a time."""

import math

import numpy as np


def conv2d(x, kernel, stride) -> np.ndarray:
    kh, kw, _, channels = kernel.shape
    padded = np.pad(x, ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0)))
    rows = range(0, padded.shape[1] - kh + 1, stride)
    columns = range(0, padded.shape[2] - kw + 1, stride)
    result = np.zeros((len(x), len(rows), len(columns), channels))
    for i, y in enumerate(rows):
        for j, left in enumerate(columns):
            window = padded[:, y : y + kh, left : left + kw]
            result[:, i, j] = np.tensordot(window, kernel, axes=3)
    return result


def same_conv2d(x, kernel, stride, groups=1) -> np.ndarray:
    """With TensorFlow's "SAME" padding: zeros for ceil(side / stride) outputs, of an odd number more at the end."""
    size, outputs, padding = len(kernel), [], [(0, 0)]
    for side in x.shape[1:3]:
        outputs.append(math.ceil(side / stride))
        zeros = max((outputs[-1] - 1) * stride + size - side, 0)
        padding.append((zeros // 2, zeros - zeros // 2))
    padded = np.pad(x, (*padding, (0, 0)))
    result = np.zeros((len(x), *outputs, kernel.shape[-1]))
    width = kernel.shape[-1] // groups
    for i in range(outputs[0]):
        for j in range(outputs[1]):
            window = padded[:, i * stride : i * stride + size, j * stride : j * stride + size]
            for group, seen in enumerate(np.split(window, groups, axis=-1)):
                own = slice(group * width, (group + 1) * width)
                result[:, i, j, own] = np.tensordot(seen, kernel[..., own], axes=3)
    return result
