"""Pictures of a few evaluation images with their objects and detections, drawn at every evaluation."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from lga_jax.data.source import Source, UnreadableImageError, truth_of
from lga_jax.drawing.pictures import draw_detections

NUM_SAMPLES = 4
SCORE = 0.5  # the lowest score of a drawn detection
_LONG_EDGE = 800  # pixels
_QUALITY = 85


def draw_samples(source: Source, detections: Sequence[dict]) -> dict[str, bytes]:
    """JPEG files by name, 'sample_0' and so on: the same images each time, spread evenly over the source.

    Dashed: objects. With Gaussian masks these are drawn too. An image that cannot be read is left out.

    Args:
        source: the evaluation images.
        detections: COCO results of these images.
    """
    truth = truth_of(source)
    names = {category["id"]: category["name"] for category in truth["categories"]}
    places = sorted({round(place) for place in np.linspace(0, len(source.records) - 1, NUM_SAMPLES).tolist()})
    pictures = {}
    for number, place in enumerate(places):
        image_id = source.records[place].image_id
        objects, found = (
            [box for box in boxes if box["image_id"] == image_id] for boxes in (truth["annotations"], detections)
        )
        try:
            image = source.image(place)
        except UnreadableImageError:
            continue
        confident = [detection for detection in found if detection["score"] >= SCORE]
        pictures[f"sample_{number}"] = _jpeg(draw_detections(image, confident, names, objects))
    return pictures


def _jpeg(picture: UInt8[np.ndarray, "h w 3"]) -> bytes:
    scale = min(1.0, _LONG_EDGE / max(picture.shape[:2]))
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
