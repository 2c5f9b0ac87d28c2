"""RoIAlign with the meaning it has in torchvision and Detectron2, one point at a time."""

import math

import numpy as np


def pyramid_level(box, num_levels) -> int:
    """FPN equation 1: a 224-pixel box is pooled from the third of the levels P2, P3, P4, P5."""
    side = math.sqrt(max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0))
    level = math.floor(4 + math.log2(side / 224)) if side > 0 else -math.inf
    return int(min(max(level - 2, 0), num_levels - 1))


def bilinear(feature, y, x) -> np.ndarray:
    """Zero for a point more than one cell outside; otherwise the point is moved onto the map, then interpolated."""
    height, width, channels = feature.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(channels)
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = (1 - dx) * feature[top, left] + dx * feature[top, right]
    lower = (1 - dx) * feature[bottom, left] + dx * feature[bottom, right]
    return (1 - dy) * upper + dy * lower


def roi_align(feature, box, stride, crop_size, sampling_ratio, aligned) -> np.ndarray:
    """The mean of sampling_ratio^2 points in each of crop_size^2 cells of the box; ratio 0: as many as fit it."""
    x1, y1, x2, y2 = (float(v) / stride - (0.5 if aligned else 0.0) for v in box)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1.0), max(height, 1.0)
    crop = np.zeros((crop_size, crop_size, feature.shape[2]))
    num_y, num_x = (sampling_ratio or math.ceil(side / crop_size) for side in (height, width))
    points_y, points_x = ([(sample + 0.5) / number for sample in range(number)] for number in (num_y, num_x))
    for row in range(crop_size):
        for column in range(crop_size):
            for dy in points_y:
                for dx in points_x:
                    y = y1 + (row + dy) * height / crop_size
                    x = x1 + (column + dx) * width / crop_size
                    crop[row, column] += bilinear(feature, y, x)
    return crop / max(num_y * num_x, 1)


def multilevel_roi_align(features, boxes, *, strides, crop_size, sampling_ratio, aligned) -> np.ndarray:
    crops = []
    for box in boxes:
        level = pyramid_level(box, len(features))
        crops.append(roi_align(features[level], box, strides[level], crop_size, sampling_ratio, aligned))
    return np.stack(crops)
