"""Photometric distortion: brightness, contrast, saturation and hue in one pass over the pixels.

Probabilities and ranges are those of torchvision's `RandomPhotometricDistort`, which follows SSD (Liu et al. 2016). Its
permutation of channels is left out, because it takes their meaning from colours. Hue turns around the grey axis of YIQ
where torchvision goes through HSV. So all four are linear, keep grey grey, and give the same in any order; pixels are
rounded and clipped once.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

_LOW, _HIGH = (0.875, 0.5, 0.5, -0.05), (1.125, 1.5, 1.5, 0.05)
_LUMA = np.array([0.299, 0.587, 0.114])
_YIQ = np.array([_LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])  # of RGB; grey has no I and no Q


class Colour(NamedTuple):
    """How the colours of an image are changed."""

    brightness: float = 1.0  # factor of every channel
    contrast: float = 1.0  # factor of the difference to the mean grey of the image
    saturation: float = 1.0  # factor of the difference to the grey of the pixel
    hue: float = 0.0  # turns, from red to green


def draw_colour(rng: np.random.Generator, probability: float) -> Colour:
    """Each of the four is drawn with this probability, and else left as it is."""
    changed, drawn = rng.random(4) < probability, rng.uniform(_LOW, _HIGH)
    return Colour(*np.where(changed, drawn, Colour()).tolist())


def distort(image: UInt8[np.ndarray, "h w 3"], colour: Colour) -> UInt8[np.ndarray, "h w 3"]:
    """The image in other colours; the image itself where nothing is changed."""
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
