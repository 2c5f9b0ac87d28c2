"""Detects data sets with boxes in another format than COCO's, from all boxes of a set together."""

import numpy as np
from jaxtyping import Bool, Float, Int

from lga_jax.errors import counted

_NEARLY_ALL, _MANY = 0.95, 0.1  # shares of the boxes of a data set
_FEWEST = 10  # boxes outside their image; fewer prove nothing

# kind: the suspicious property of the boxes, and the remedy.
BOX_FORMATS = {
    "corners": (
        "outside the image; as [x1, y1, x2, y2] nearly all would fit",
        "convert bbox to [x, y, width, height]",
    ),
    "fractions": (
        "of at most one pixel: perhaps fractions of the image",
        "convert bbox to [x, y, width, height] in pixels",
    ),
    "reaching_out": (
        "more than a pixel outside the image: perhaps in another format, or for another image size",
        "convert bbox to [x, y, width, height] in pixels of the image as stored",
    ),
}


def suspicious_layout(xywh: Float[np.ndarray, "n 4"], wh: Int[np.ndarray, "n 2"]) -> dict[str, Bool[np.ndarray, "n"]]:
    """Finds boxes that are probably not [x, y, width, height] in pixels; the keys are those of BOX_FORMATS.

    wh: width and height of each box's image, in pixels.
    """
    if not len(xywh):
        return {}
    start, end = xywh[:, :2], xywh[:, 2:]
    with np.errstate(over="ignore", invalid="ignore"):
        beyond = ((start < -1) | (start + end > wh + 1)).any(axis=1)
        fits_as_corners = ((end > start) & (end <= wh + 1)).all(axis=1)
        small = (np.abs(xywh) <= 1).all(axis=1)
    if small.mean() > _NEARLY_ALL:
        return {"fractions": small}
    if beyond.mean() <= _MANY:
        return {}
    if fits_as_corners.mean() > _NEARLY_ALL:
        return {"corners": beyond}
    return {"reaching_out": beyond} if beyond.sum() >= _FEWEST else {}


def report_layout(xywh: Float[np.ndarray, "n 4"], wh: Int[np.ndarray, "n 2"]) -> list[str]:
    """Report line for suspicious boxes, if there are any."""
    lines = []
    for kind, boxes in suspicious_layout(xywh, wh).items():
        text, remedy = BOX_FORMATS[kind]
        lines.append(f"WARNING: {boxes.sum():,} of {counted(len(boxes), 'box')} {text}; {remedy}")
    return lines
