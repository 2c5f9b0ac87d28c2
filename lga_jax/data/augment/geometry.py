"""Resizing, cropping and flipping of images and boxes on the host. Pixels stay uint8; the device normalises them."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

# The loader decodes in its own threads; OpenCV's threads would compete with them for the cores.
cv2.setNumThreads(1)

KERNELS = ("bilinear", "antialias")
ROUNDINGS = ("nearest", "floor")


def resize_hw(hw: tuple[int, int], short_edge: int, long_edge: int, rounding: str) -> tuple[int, int]:
    """The size with a short edge of `short_edge`, or smaller so that the long edge is at most `long_edge`.

    `rounding` to whole pixels: "nearest" (Detectron2) or "floor" (torchvision).
    """
    return scaled_hw(hw, min(short_edge / min(hw), long_edge / max(hw)), rounding)


def fit_hw(hw: tuple[int, int], bound_hw: tuple[int, int]) -> tuple[int, int]:
    """`hw` if it fits into `bound_hw`, otherwise the largest size of the same aspect ratio that fits."""
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
    """Resizes `image` to `hw` and writes the crop of the size of `out` that starts at `crop_yx` into `out`.

    Both kernels are bilinear with pixel centres at one half. "bilinear" uses the four nearest pixels. "antialias" is
    Pillow's: the filter becomes wider when the image shrinks, and equals "bilinear" up to rounding when it grows.
    `out` may be a slice of a larger array.
    """
    (height, width), (y, x) = out.shape[:2], crop_yx
    if kernel == "antialias":
        # Pillow computes only the crop, a box in pixels of the original image.
        y_scale, x_scale = image.shape[0] / hw[0], image.shape[1] / hw[1]
        box = x * x_scale, y * y_scale, (x + width) * x_scale, (y + height) * y_scale
        out[:] = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box)
    elif (height, width) == tuple(hw):
        cv2.resize(image, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    else:
        resized = cv2.resize(image, (hw[1], hw[0]), interpolation=cv2.INTER_LINEAR)
        out[:] = resized[y : y + height, x : x + width]


def flip_in_place(image: UInt8[np.ndarray, "h w 3"]) -> None:
    """Flips left to right. `image` may be a slice of a larger array."""
    cv2.flip(image, 1, dst=image)


def flip_boxes(boxes: Float[np.ndarray, "n 4"], width: int) -> Float[np.ndarray, "n 4"]:
    """The boxes after flipping an image of `width` pixels left to right."""
    x1, y1, x2, y2 = boxes.T
    return np.stack([width - x2, y1, width - x1, y2], axis=1)


def turn_boxes(boxes: Float[np.ndarray, "n 4"], hw: tuple[int, int], turns: int) -> Float[np.ndarray, "n 4"]:
    """The boxes of an image of size `hw` after `turns` quarter turns to the left, from 0 to 3."""
    (height, width), (x1, y1, x2, y2) = hw, boxes.T
    turned = (
        (x1, y1, x2, y2),
        (y1, width - x2, y2, width - x1),
        (width - x2, height - y2, width - x1, height - y1),
        (height - y2, x1, height - y1, x2),
    )
    return np.stack(turned[turns], axis=1)


def scale_boxes(boxes: Float[np.ndarray, "n 4"], scale_hw: Float[np.ndarray, "2"]) -> Float[np.ndarray, "n 4"]:
    """The boxes after a resize by `scale_hw` (resized / original, per axis)."""
    return boxes * scale_hw[[1, 0, 1, 0]]


def crop_boxes(
    boxes: Float[np.ndarray, "n 4"], crop_yx: tuple[int, int], crop_hw: tuple[int, int]
) -> Float[np.ndarray, "n 4"]:
    """The boxes clipped to the crop of size `crop_hw` that starts at `crop_yx`, in pixels of the crop.

    Boxes outside the crop get an area of zero.
    """
    (y, x), (height, width) = crop_yx, crop_hw
    return np.clip(boxes - np.array([x, y, x, y]), 0, np.array([width, height, width, height]))


def have_area(boxes: Float[np.ndarray, "n 4"]) -> Bool[np.ndarray, "n"]:
    """True for boxes with a width and a height above 0."""
    return (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
