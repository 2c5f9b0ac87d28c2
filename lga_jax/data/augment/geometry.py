"""Geometry of images and their boxes, on the host. Pixels stay uint8: they are normalised on the device."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

# A thread for each image in flight is the loader's to start; OpenCV's own would fight with them for the cores.
cv2.setNumThreads(1)

KERNELS = ("bilinear", "antialias")
ROUNDINGS = ("nearest", "floor")


def resize_hw(hw: tuple[int, int], short_edge: int, long_edge: int, rounding: str) -> tuple[int, int]:
    """Height and width that bring the short edge to `short_edge`, or less where the long one would pass `long_edge`.

    `rounding` to whole pixels: "nearest" (Detectron2) or "floor" (torchvision).
    """
    return scaled_hw(hw, min(short_edge / min(hw), long_edge / max(hw)), rounding)


def fit_hw(hw: tuple[int, int], bound_hw: tuple[int, int]) -> tuple[int, int]:
    """`hw` as it is where it fits into `bound_hw`, else the largest size of the same shape that does."""
    return scaled_hw(hw, min(1.0, bound_hw[0] / hw[0], bound_hw[1] / hw[1]), "nearest")


def scaled_hw(hw: tuple[int, int], scale: float, rounding: str) -> tuple[int, int]:
    """`hw` times `scale` in whole pixels, at least 1."""
    half = 0.5 if rounding == "nearest" else 0.0
    height, width = (max(1, int(side * scale + half)) for side in hw)
    return height, width


def resize_into(
    out: UInt8[np.ndarray, "h w 3"],
    image: UInt8[np.ndarray, "h1 w1 3"],
    hw: tuple[int, int],
    crop_yx: tuple[int, int],
    kernel: str,
) -> None:
    """Writes the part of `image`, resized to `hw`, that begins at `crop_yx` and is as large as `out`.

    Both kernels are bilinear with pixel centres at one half. "bilinear" takes the four nearest pixels; "antialias" is
    Pillow's, a filter that widens as an image is made smaller and does the same, up to rounding, where it is enlarged.
    `out` may be a part of a larger array.
    """
    (height, width), (y, x) = out.shape[:2], crop_yx
    if kernel == "antialias":
        # Pillow computes nothing but the part: a box in pixels of the image as stored.
        y_scale, x_scale = image.shape[0] / hw[0], image.shape[1] / hw[1]
        box = x * x_scale, y * y_scale, (x + width) * x_scale, (y + height) * y_scale
        out[:] = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box)
    elif (height, width) == tuple(hw):
        cv2.resize(image, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    else:
        resized = cv2.resize(image, (hw[1], hw[0]), interpolation=cv2.INTER_LINEAR)
        out[:] = resized[y : y + height, x : x + width]


def flip_in_place(image: UInt8[np.ndarray, "h w 3"]) -> None:
    """Left to right. `image` may be a part of a larger array."""
    cv2.flip(image, 1, dst=image)


def flip_boxes(boxes: Float[np.ndarray, "n 4"], width: int) -> Float[np.ndarray, "n 4"]:
    """Where boxes of an image of `width` pixels lie after it is flipped."""
    x1, y1, x2, y2 = boxes.T
    return np.stack([width - x2, y1, width - x1, y2], axis=1)


def scale_boxes(boxes: Float[np.ndarray, "n 4"], scale_hw: Float[np.ndarray, "2"]) -> Float[np.ndarray, "n 4"]:
    """Where boxes lie after a resize by `scale_hw` (resized / original, per axis)."""
    return boxes * scale_hw[[1, 0, 1, 0]]


def crop_boxes(
    boxes: Float[np.ndarray, "n 4"], crop_yx: tuple[int, int], crop_hw: tuple[int, int]
) -> Float[np.ndarray, "n 4"]:
    """What is left of boxes in the part of height and width `crop_hw` that begins at `crop_yx`, in its pixels.

    Boxes outside it have no area left.
    """
    (y, x), (height, width) = crop_yx, crop_hw
    return np.clip(boxes - np.array([x, y, x, y]), 0, np.array([width, height, width, height]))


def have_area(boxes: Float[np.ndarray, "n 4"]) -> Bool[np.ndarray, "n"]:
    """True for boxes with a width and a height above 0."""
    return (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
