"""Object masks: the pixels of an object, as polygons or run lengths of COCO's format, or as a bitmap.

pycocotools fills polygons and codes run lengths. A polygon that crosses itself is filled as COCO fills it: a place is
inside if a line to it crosses the outline an odd number of times.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from pycocotools import mask as coco_masks

HW = tuple[int, int]
Pair = tuple[float | int, float | int]
FULL = 255  # the value of a cell that lies in the object completely
_ROUNDING = 1e-3  # pixels
_MOST_DIGITS = 7  # of a run length in COCO's compressed code, five bits each

# kind: what is wrong with the mask of a box.
MASK_FAULTS = {
    "mask_missing": "without an object mask",
    "mask_malformed": "with a segmentation that is neither polygons nor RLE of its image's pixels",
    "mask_open": "with a polygon of fewer than three points",
    "mask_outside": "with an object mask outside the image or the box",
    "mask_empty": "with an object mask without a pixel",
    "mask_size": "with RLE of another size than the image",
}


class Polygons(NamedTuple):
    """The union of polygons, (x, y) in pixels."""

    parts: tuple[Float[np.ndarray, "_ 2"], ...]


class RunLengths(NamedTuple):
    """COCO's compressed run-length encoding (RLE) of a whole image."""

    hw: HW
    counts: bytes


class Bitmap(NamedTuple):
    """The pixels of a rectangle."""

    pixels: Bool[np.ndarray, "h w"]
    origin: tuple[int, int] = (0, 0)  # (x, y) of the first pixel


ObjectMask = Polygons | RunLengths | Bitmap


class Placement(NamedTuple):
    """Where a point (x, y) of the stored image is seen: at matrix @ point + offset.

    The matrix scales, mirrors and turns by quarters: one number of each row and column is not 0.
    """

    matrix: Float[np.ndarray, "2 2"]
    offset: Float[np.ndarray, "2"]

    def then(self, matrix: Sequence[Pair] = ((1, 0), (0, 1)), offset: Pair = (0, 0)) -> "Placement":
        """This placement followed by another."""
        matrix = np.array(matrix, np.float64)
        return Placement(matrix @ self.matrix, matrix @ self.offset + offset)

    def within(self, box: Float[np.ndarray, "4"], cells_hw: HW) -> "Placement":
        """The placement in a grid of cells that fills a box of the seen image."""
        x1, y1, x2, y2 = box.tolist()
        factors = cells_hw[1] / (x2 - x1), cells_hw[0] / (y2 - y1)
        return self.then(offset=(-x1, -y1)).then(((factors[0], 0), (0, factors[1])))


AS_STORED = Placement(np.eye(2), np.zeros(2))


def parse_mask(segmentation: Any, hw: HW, box: Float[np.ndarray, "4"]) -> ObjectMask | str:
    """The mask of COCO's `segmentation`, a list of polygons or RLE, or a kind of MASK_FAULTS.

    hw: size of the image. box: (x1, y1, x2, y2) of the object, clipped to the image.
    """
    if segmentation in (None, [], {}):
        return "mask_missing"
    if isinstance(segmentation, list):
        return _parse_polygons(segmentation, box)
    if isinstance(segmentation, dict):
        return _parse_rle(segmentation, hw)
    return "mask_malformed"


def cover(mask: ObjectMask, placement: Placement, hw: HW, fine: int = 2) -> UInt8[np.ndarray, "h w"]:
    """The share of each cell of a grid of size `hw` that lies in the object, 0 to FULL.

    `placement`: of the mask in the grid. The object may reach out of the grid. fine: cells per axis in which polygons
    are filled, for each cell of the grid.
    """
    if isinstance(mask, Polygons):
        return _fill(mask, placement, hw, fine)
    bitmap, scale = _decoded(mask) if isinstance(mask, RunLengths) else mask, placement.matrix.diagonal()
    if not scale.all():  # a quarter turn: x and y change places
        bitmap, scale = Bitmap(bitmap.pixels.T, bitmap.origin[::-1]), placement.matrix[:, ::-1].diagonal()
    low, high = (((0, 0), hw[::-1]) - placement.offset) / scale - bitmap.origin
    mirrored = low > high
    low, high = np.minimum(low, high), np.maximum(low, high)
    pixels, (low, high) = _widened(bitmap.pixels, np.stack([low, high]))
    values = Image.fromarray(np.where(pixels, np.uint8(FULL), np.uint8(0)))
    # With the box filter a cell is the mean of its pixels, weighted by their shares of it.
    cells = np.asarray(values.resize(hw[::-1], Image.Resampling.BOX, (*low, *high)))
    return cells[:: -1 if mirrored[1] else 1, :: -1 if mirrored[0] else 1]


def pixels_of(mask: ObjectMask, hw: HW) -> Bool[np.ndarray, "h w"]:
    """The pixels of an object in its stored image of size `hw`: those that it covers by half."""
    return cover(mask, AS_STORED, hw, fine=1) > FULL // 2


def crosses_itself(polygon: Float[np.ndarray, "n 2"]) -> bool:
    """Whether two sides of a polygon that are no neighbours cross."""
    start, end = polygon, np.roll(polygon, -1, axis=0)

    def side_of(points: Float[np.ndarray, "n 2"]) -> Int[np.ndarray, "n n"]:
        """Row i: on which side of side i each point lies, -1, 0 or 1."""
        along, to_point = (end - start)[:, None], points[None] - start[:, None]
        return np.sign(along[..., 0] * to_point[..., 1] - along[..., 1] * to_point[..., 0]).astype(int)

    parted = side_of(start) * side_of(end) < 0
    return bool((parted & parted.T).any())


def to_rle(mask: ObjectMask, hw: HW) -> dict[str, Any]:
    """COCO's compressed RLE of the mask in an image of size `hw`, as pycocotools takes it."""
    if isinstance(mask, Polygons):
        return coco_masks.merge(coco_masks.frPyObjects([part.ravel() for part in mask.parts], *hw))
    if isinstance(mask, RunLengths):
        return {"size": list(mask.hw), "counts": mask.counts}
    return _compressed(_count_runs(mask, hw), hw)


def _parse_polygons(segmentation: Sequence[Any], box: Float[np.ndarray, "4"]) -> Polygons | str:
    try:
        parts = [np.array(part) for part in segmentation]
    except ValueError:
        return "mask_malformed"
    if not all(part.ndim == 1 and (part.dtype.kind in "if" or not len(part)) for part in parts):
        return "mask_malformed"
    parts = [part.astype(np.float64) for part in parts]  # rounded to float32, some pixels would not be COCO's
    if not all(len(part) % 2 == 0 and np.isfinite(part).all() for part in parts):
        return "mask_malformed"
    if min(map(len, parts)) < 6:
        return "mask_open"
    points = np.concatenate(parts).reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    if not (high > low).all():
        return "mask_empty"
    if not ((low < box[2:]) & (high > box[:2])).all():
        return "mask_outside"
    return Polygons(tuple(part.reshape(-1, 2) for part in parts))


def _parse_rle(segmentation: dict[str, Any], hw: HW) -> RunLengths | str:
    size, code = segmentation.get("size"), segmentation.get("counts")
    if not (isinstance(size, list) and all(type(side) in (int, float) for side in size)):
        return "mask_malformed"
    if size != list(hw):
        return "mask_size"
    counts = _run_lengths(code) if isinstance(code, str | bytes) else _whole_numbers(code)
    # pycocotools leaves pixels after the last run as they are in memory.
    if counts is None or (counts < 0).any() or counts.astype(float).sum() != hw[0] * hw[1]:
        return "mask_malformed"
    if not counts[1::2].any():
        return "mask_empty"
    return RunLengths(hw, _compressed(counts, hw)["counts"])


def _compressed(counts: Int[np.ndarray, "n"], hw: HW) -> dict[str, Any]:
    return coco_masks.frPyObjects({"size": list(hw), "counts": counts.tolist()}, *hw)


def _count_runs(bitmap: Bitmap, hw: HW) -> Int[np.ndarray, "n"]:
    """The run lengths of a bitmap in an image of size `hw`, in the memory of the bitmap instead of the image."""
    (x, y), height = bitmap.origin, bitmap.pixels.shape[0] + 1
    columns = np.zeros((bitmap.pixels.shape[1], height), bool)  # with a pixel below each column, where runs end
    columns[:, :-1] = bitmap.pixels.T
    edges = np.flatnonzero(np.diff(columns.ravel().view(np.int8), prepend=np.int8(0)))
    places = (x + edges // height) * hw[0] + y + edges % height
    # In a bitmap as high as the image, a run ends where the next one starts.
    joined = places[1:-1:2] == places[2::2]
    kept = ~np.concatenate([[False], np.repeat(joined, 2), [False]]) if len(places) else np.zeros(0, bool)
    counts = np.diff(np.concatenate([[0], places[kept], [hw[0] * hw[1]]]))
    return counts[:-1] if len(counts) > 1 and not counts[-1] else counts


def _whole_numbers(counts: Any) -> Int[np.ndarray, "n"] | None:
    whole = isinstance(counts, list) and all(type(count) is int and abs(count) < 2**32 for count in counts)
    return np.array(counts, np.int64) if whole else None


def _run_lengths(code: str | bytes) -> Int[np.ndarray, "n"] | None:
    """The run lengths of COCO's compressed code; None if it is no such code.

    A number is written from its lowest digit, five bits per character from "0" on; 32 says that another digit follows.
    From the fourth on, a number is the difference to the last but one.
    """
    try:
        characters = np.frombuffer(code.encode("ascii") if isinstance(code, str) else code, np.uint8)
    except UnicodeEncodeError:
        return None
    digits = characters.astype(np.int64) - 48
    last = digits < 32
    if not len(digits) or digits.min() < 0 or digits.max() > 63 or not last[-1]:
        return None
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MOST_DIGITS:
        return None
    place = np.arange(len(digits)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((digits & 31) << 5 * place, starts)
    numbers -= np.where(digits[ends] & 16, 1 << 5 * lengths, 0)  # two's complement
    numbers[1::2], numbers[2::2] = np.cumsum(numbers[1::2]), np.cumsum(numbers[2::2])
    return numbers


def _decoded(mask: RunLengths) -> Bitmap:
    return Bitmap(coco_masks.decode({"size": list(mask.hw), "counts": mask.counts}).view(bool))


def _widened(
    pixels: Bool[np.ndarray, "h w"], frame: Float[np.ndarray, "2 2"]
) -> tuple[Bool[np.ndarray, "_ _"], Float[np.ndarray, "2 2"]]:
    """The pixels with empty ones around them, so that the frame ((x1, y1), (x2, y2)) lies in them; and the frame."""
    limit = np.array(pixels.shape[::-1])
    beyond = np.ceil(np.stack([-frame[0], frame[1] - limit]) - _ROUNDING).astype(int).clip(0)
    if beyond.any():
        pixels, frame, limit = np.pad(pixels, beyond.T[::-1]), frame + beyond[0], limit + beyond.sum(0)
    return pixels, np.clip(frame, 0, limit)


def _fill(mask: Polygons, placement: Placement, hw: HW, fine: int) -> UInt8[np.ndarray, "h w"]:
    fine_hw = hw[0] * fine, hw[1] * fine
    placement = placement.then(((fine, 0), (0, fine)))
    placed = (part @ placement.matrix.T + placement.offset for part in mask.parts)
    parts = [part.ravel() for part in (_clipped(part, fine_hw) for part in placed) if len(part) > 2]
    if not parts:
        return np.zeros(hw, np.uint8)
    filled = coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects(parts, *fine_hw)))
    # Column by column, as pycocotools stores them: twice as fast.
    return cv2.resize(filled.T * np.uint8(FULL), hw, interpolation=cv2.INTER_AREA).T


def _clipped(points: Float[np.ndarray, "n 2"], hw: HW) -> Float[np.ndarray, "_ 2"]:
    """The part of a polygon inside (0, 0, width, height) (Sutherland and Hodgman 1974), if it reaches far out of it.

    pycocotools clips itself, but needs memory and time in proportion to the whole outline.
    """
    most = max(hw)
    if points.min() >= -most and points.max() <= 2 * most:
        return points
    for axis, sign, limit in ((0, 1, 0), (0, -1, hw[1]), (1, 1, 0), (1, -1, hw[0])):
        depth = sign * (points[:, axis] - limit)
        next_points, next_depth = np.roll(points, -1, axis=0), np.roll(depth, -1)
        crossing = (depth >= 0) != (next_depth >= 0)
        share = depth / np.where(crossing, depth - next_depth, 1.0)
        border = points + share[:, None] * (next_points - points)
        points = np.stack([points, border], axis=1)[np.stack([depth >= 0, crossing], axis=1)]
    return points
