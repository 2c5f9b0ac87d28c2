"""Converts pixels with more than eight bits per channel to eight bits, by the rule in docs/data.md."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Num, UInt8

from lga_jax.data.source import UnreadableImageError

TWELVE_BITS = 2**12
SIXTEEN_BITS = 2**16


class EightBits(NamedTuple):
    """Converted pixels, and the values that they were converted from."""

    pixels: UInt8[np.ndarray, "h w *c"]
    values: str  # "12 bits", ...; "" for eight bits


def to_eight_bits(pixels: Num[np.ndarray, "h w *c"], name: str) -> EightBits:
    """Converts pixels of any numeric type. Raises UnreadableImageError, with `name` as subject, for other values.

    Integers below 4096 in 16 bits are taken for 12 bits, because a camera of 12 bits would otherwise give nearly black
    images. Integers of 32 bits are taken for 8, 12 or 16 bits. Floats are from 0 to 1, or from 0 to 255.
    """
    if pixels.dtype == np.uint8:
        return EightBits(pixels, "")
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind == "f":
        scale = next((scale for scale in (1, 255) if low >= 0 and high <= scale), None)  # None for nan
        if scale is None:
            raise unsuitable(name, f"floats from {low:g} to {high:g}")
        eight = np.rint(255 * pixels) if scale == 1 else pixels  # Pillow cuts the fractions too
        return EightBits(eight.astype(np.uint8), f"floats from 0 to {scale}")
    if low < 0 or high >= SIXTEEN_BITS:
        raise unsuitable(name, f"integers from {low} to {high}")
    if pixels.dtype.itemsize > 2 and high < 256:
        return EightBits(pixels.astype(np.uint8), "32 bits, values below 256")
    bits = 12 if high < TWELVE_BITS else 16
    return EightBits((pixels >> (bits - 8)).astype(np.uint8), f"{bits} bits")


def unsuitable(name: str, found: str) -> UnreadableImageError:
    """The error for an image whose values have no stated meaning."""
    return UnreadableImageError(
        name,
        expected="8, 12 or 16 bits per channel, or floats from 0 to 1 or from 0 to 255",
        found=found,
        remedy="convert it to 8 bits",
    )
