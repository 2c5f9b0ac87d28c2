"""Photometric distortion: brightness, contrast, saturation and hue in one pass over the pixels.

Probabilities and ranges are those of torchvision's `RandomPhotometricDistort`, which follows SSD (Liu et al. 2016).
Channels are not permuted, because classes may differ in colour. Hue rotates around the grey axis of YIQ; torchvision
uses HSV. So all four changes are linear, keep grey grey and commute; pixels are rounded and clipped once.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

_LOW, _HIGH = (0.875, 0.5, 0.5, -0.05), (1.125, 1.5, 1.5, 0.05)
_LUMA = np.array([0.299, 0.587, 0.114])
_YIQ = np.array(
    [_LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
)  # rows: Y, I, Q of an RGB pixel; grey has I = Q = 0


class Colour(NamedTuple):
    """The changes of the colours of an image; the defaults change nothing."""

    brightness: float = 1.0  # factor for all channels
    contrast: float = 1.0  # factor for the difference to the mean grey of the image
    saturation: float = 1.0  # factor for the difference to the grey of the pixel
    hue: float = 0.0  # turns, from red to green


def draw_colour(rng: np.random.Generator, probability: float) -> Colour:
    """Draws each of the four changes with this probability; otherwise its default."""
    changed, drawn = rng.random(4) < probability, rng.uniform(_LOW, _HIGH)
    return Colour(*np.where(changed, drawn, Colour()).tolist())


def distort(image: UInt8[np.ndarray, "h w 3"], colour: Colour) -> UInt8[np.ndarray, "h w 3"]:
    """Applies the changes; returns `image` itself if there are none."""
    if colour == Colour():
        return image
    matrix = colour.brightness * colour.contrast * _turn(colour.hue) @ _saturate(colour.saturation)
    shift = colour.brightness * (1 - colour.contrast) * _LUMA @ cv2.mean(image)[:3]
    return cv2.transform(image, np.column_stack([matrix, [shift] * 3]))


def _saturate(factor: float) -> Float[np.ndarray, "3 3"]:
    return factor * np.eye(3) + (1 - factor) * _LUMA


def _turn(turns: float) -> Float[np.ndarray, "3 3"]:
    sine, cosine = np.sin(2 * np.pi * turns), np.cos(2 * np.pi * turns)
    return np.linalg.solve(_YIQ, np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]]) @ _YIQ)
