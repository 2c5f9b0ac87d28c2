"""Anchors, one at a time."""

import math

import numpy as np


def pyramid_anchors(features_hw, strides, sizes, aspect_ratios) -> np.ndarray:
    anchors = []
    for (height, width), stride, size in zip(features_hw, strides, sizes, strict=True):
        for row in range(height):
            for column in range(width):
                for ratio in aspect_ratios:
                    w, h = size / math.sqrt(ratio), size * math.sqrt(ratio)
                    x, y = column * stride, row * stride
                    anchors.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    return np.asarray(anchors, np.float32).reshape(-1, 4)
