"""What a worse camera or a stronger compression does to an image: blur and the blocks of JPEG.

Both work on the resized image, so that they look the same for every size of the stored image.
"""

import cv2
import numpy as np
from jaxtyping import UInt8

_SIGMA = 0.5, 1.5  # pixels of the resized image
_QUALITY = 30, 90  # of JPEG; 95 changes hardly a pixel


def draw_blur(rng: np.random.Generator, probability: float) -> float:
    """Draws the sigma of a Gaussian blur in pixels; 0, no blur, with probability 1 - `probability`."""
    return rng.uniform(*_SIGMA) if rng.random() < probability else 0.0


def draw_quality(rng: np.random.Generator, probability: float) -> int:
    """Draws the quality of JPEG; 0, no compression, with probability 1 - `probability`."""
    return int(rng.integers(*_QUALITY, endpoint=True)) if rng.random() < probability else 0


def blur_in_place(image: UInt8[np.ndarray, "h w 3"], sigma: float) -> None:
    """Blurs; `image` may be a slice of a larger array."""
    image[:] = cv2.GaussianBlur(image, (0, 0), sigma)


def compress_in_place(image: UInt8[np.ndarray, "h w 3"], quality: int) -> None:
    """Compresses with JPEG and decompresses; `image` may be a slice of a larger array."""
    # OpenCV expects the order BGR, and JPEG keeps more of green than of blue.
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    image[:] = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
