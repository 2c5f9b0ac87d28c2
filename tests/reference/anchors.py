"""Anchors, one at a time."""

import math

import numpy as np


def pyramid_anchors(image_hw, features_hw, strides, *, sizes, aspect_ratios, rounded, fixed_stride) -> np.ndarray:
    anchors = []
    for (height, width), stride, size in zip(features_hw, strides, sizes, strict=True):
        stride_y, stride_x = (stride, stride) if fixed_stride else (image_hw[0] // height, image_hw[1] // width)
        for row in range(height):
            for column in range(width):
                for ratio in aspect_ratios:
                    w, h = size / math.sqrt(ratio), size * math.sqrt(ratio)
                    x, y = column * stride_x, row * stride_y
                    base = [-w / 2, -h / 2, w / 2, h / 2]
                    left, top, right, bottom = map(round, base) if rounded else base
                    anchors.append((x + left, y + top, x + right, y + bottom))
    return np.asarray(anchors, np.float32).reshape(-1, 4)
