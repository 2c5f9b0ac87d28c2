"""Several views of an image for one prediction: mirrored, at several sizes (test-time augmentation), in tiles.

Every view is predicted as an image of its own. Its detections are brought back to the pixels of the original image and
merged within their class.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from ml_collections import ConfigDict

from lga_jax.data.source import Record, Source
from lga_jax.errors import UserError
from lga_jax.inference.locate import Located
from lga_jax.structs import Detections

MERGES = ("nms", "wbf")
_IMAGES_AT_ONCE = 16  # images whose detections are collected before they are merged
_WBF_IOU = 0.55  # Solovyev et al. 2021
_CUT_SHARE = 0.5  # a box that a tile cuts is dropped if a better box covers this share of it
_BORDER = 1.0  # pixels; a box that ends this near to an inner border of a tile is cut
_STRIDE = 32  # buckets of other scales have sides that are multiples of it


class Views(NamedTuple):
    """Which views of an image are predicted. The default is the image alone."""

    flip: bool = False  # also every view mirrored left to right
    scales: tuple[float, ...] = (1.0,)  # factors of the size of evaluation
    tile: int = 0  # side of square tiles beside the whole image, in pixels of the image; 0: no tiles
    overlap: float = 0.25  # least share of its side that a tile has in common with its neighbour
    merge: str = "nms"  # "nms", or "wbf": weighted boxes fusion, a box of all views

    @property
    def is_plain(self) -> bool:
        """Whether the image alone is predicted."""
        return not self.flip and self.scales == (1.0,) and not self.tile


class Part(NamedTuple):
    """A rectangle of an image, in pixels, perhaps mirrored."""

    index: int  # of the image in its source
    y: int
    x: int
    height: int
    width: int
    flip: bool


class Found(NamedTuple):
    """Detections of an image in its own pixels."""

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, "n"]
    labels: Int[np.ndarray, "n"]
    rois: Float[np.ndarray, "n 4"]
    mask_centres: Float[np.ndarray, "n m 2"]
    mask_sigmas: Float[np.ndarray, "n m 2"]
    masks: Float[np.ndarray, "n p p"]
    cut: Bool[np.ndarray, "n"]  # by an inner border of a tile


class PartSource:
    """A Source of parts of the images of another source, numbered from 0."""

    def __init__(self, source: Source, parts: Sequence[Part]) -> None:
        self.class_names = source.class_names
        no_boxes = np.zeros((0, 4), np.float32)
        self.records = [
            Record(number, part.height, part.width, no_boxes, np.zeros(0, np.int32), np.zeros(0, bool))
            for number, part in enumerate(parts)
        ]
        self._parts = parts
        self._whole = functools.lru_cache(maxsize=8)(source.image)  # the tiles of an image decode it once

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels of a part. Raises the errors of the image."""
        part = self._parts[index]
        pixels = self._whole(part.index)[part.y : part.y + part.height, part.x : part.x + part.width]
        return np.ascontiguousarray(pixels[:, ::-1] if part.flip else pixels)


def check_views(views: Views) -> None:
    """Raises UserError for values that are out of range."""
    for subject, expected, found, good in (
        ("scales", "numbers from 0.1 to 10", views.scales, views.scales and all(0.1 <= s <= 10 for s in views.scales)),
        ("tile", "0, or a side of at least 32 pixels", views.tile, views.tile == 0 or views.tile >= 32),
        ("overlap", "a number from 0 to 0.9", views.overlap, 0 <= views.overlap <= 0.9),
        ("merge", " or ".join(MERGES), views.merge, views.merge in MERGES),
        ("merge", "nms with tiles", views.merge, views.merge == "nms" or not views.tile),
    ):
        if not good:
            raise UserError(f"views.{subject}", expected=expected, found=str(found))


def parts_of(record: Record, index: int, views: Views) -> list[Part]:
    """The whole image, its tiles, and with `flip` all of them mirrored."""
    places = [(0, 0, record.height, record.width)]
    if views.tile and max(record.height, record.width) > views.tile:
        height, width = min(views.tile, record.height), min(views.tile, record.width)
        rows = tile_starts(record.height, height, views.overlap)
        columns = tile_starts(record.width, width, views.overlap)
        places += [(y, x, height, width) for y in rows for x in columns]
    flips = (False, True) if views.flip else (False,)
    return [Part(index, *place, flip) for place in places for flip in flips]


def tile_starts(side: int, tile: int, overlap: float) -> list[int]:
    """Starts of the fewest tiles that cover `side` and have at least `overlap` in common, evenly spaced."""
    count = 1 + math.ceil((side - tile) / max(1.0, tile * (1 - overlap)))
    return [round(number * (side - tile) / max(1, count - 1)) for number in range(count)]


def scaled(data: ConfigDict, scale: float) -> ConfigDict:
    """The settings of the data for images that are seen `scale` times as large as in evaluation."""
    if scale == 1.0:
        return data
    changed = ConfigDict(data.to_dict(), type_safe=False)
    buckets = data.eval_buckets or data.buckets
    changed.eval_buckets = tuple(tuple(math.ceil(side * scale / _STRIDE) * _STRIDE for side in hw) for hw in buckets)
    changed.eval_short_edge = max(1, round(data.eval_short_edge * scale))
    changed.long_edge = max(1, round(data.long_edge * scale))
    return changed


def locate_views(
    locate: Callable[[Source, ConfigDict], Iterator[Located]],
    source: Source,
    data: ConfigDict,
    views: Views,
    nms_iou: float,
    max_detections: int,
) -> Iterator[Located]:
    """The merged detections of every image, one Located per image, in pixels of the image.

    Args:
        locate: the detections of a source with these settings of the data, as Predictor.locate gives them.
        source: the images.
        data: the recipe's `data`.
        views: the views of every image.
        nms_iou: a box with a higher IoU with a better box of its class is dropped by "nms".
        max_detections: the most detections of an image.
    """
    for start in range(0, len(source.records), _IMAGES_AT_ONCE):
        chunk = range(start, min(start + _IMAGES_AT_ONCE, len(source.records)))
        parts = [part for index in chunk for part in parts_of(source.records[index], index, views)]
        found: dict[int, list[Found]] = {index: [] for index in chunk}
        for scale in views.scales:
            for located in locate(PartSource(source, parts), scaled(data, scale)):
                for row, number in enumerate(located.index.tolist()):
                    part = parts[number]
                    found[part.index].append(_in_image(located, row, part, source.records[part.index]))
        for index in chunk:
            num_views = len(found[index])
            joined = Found(*(np.concatenate(leaves) for leaves in zip(*found[index], strict=True)))
            if views.merge == "wbf" and joined.masks.shape[-1]:
                expected = "nms for a detector with a mask head: a fused box has no mask of its own"
                raise UserError("views.merge", expected=expected, found=views.merge)
            merged = fuse(joined, num_views) if views.merge == "wbf" else suppress(joined, nms_iou)
            yield _as_located(index, merged, max_detections)


def suppress(found: Found, nms_iou: float) -> Found:
    """Greedy NMS within each class; boxes that a tile cuts come last and need less overlap to be dropped."""
    order = np.lexsort((-found.scores, found.cut))
    found = Found(*(leaf[order] for leaf in found))
    intersection, areas = _intersections(found.boxes)
    union = areas[:, None] + areas[None, :] - intersection
    same = found.labels[:, None] == found.labels[None, :]
    covers = intersection > nms_iou * union  # [better, worse]
    covers |= found.cut[None, :] & (intersection > _CUT_SHARE * areas[None, :])
    kept = np.zeros(len(order), bool)
    for one in range(len(order)):
        kept[one] = not (kept[:one] & same[:one, one] & covers[:one, one]).any()
    return _best_first(Found(*(leaf[kept] for leaf in found)))


def fuse(found: Found, num_views: int) -> Found:
    """Weighted boxes fusion (Solovyev et al. 2021): boxes of a cluster are averaged with their scores as weights.

    The score is the mean score of the cluster, times the share of the views that found it. The masks are those of the
    best box.
    """
    found = _best_first(found)
    clusters: list[list[int]] = []
    centres = np.zeros((0, 4), np.float32)
    for one in range(len(found.scores)):
        own = np.array([found.labels[cluster[0]] == found.labels[one] for cluster in clusters], bool)
        ious = np.where(own, _ious(centres, found.boxes[one]), 0.0) if len(clusters) else np.zeros(0)
        if len(ious) and ious.max() > _WBF_IOU:
            best = int(ious.argmax())
            clusters[best].append(one)
            centres[best] = np.average(found.boxes[clusters[best]], axis=0, weights=found.scores[clusters[best]])
        else:
            clusters.append([one])
            centres = np.concatenate([centres, found.boxes[one : one + 1]])
    first = [cluster[0] for cluster in clusters]
    shares = [min(len(cluster), num_views) / num_views for cluster in clusters]
    means = [found.scores[cluster].mean() * share for cluster, share in zip(clusters, shares, strict=True)]
    fused = Found(*(leaf[first] for leaf in found))
    return _best_first(fused._replace(boxes=centres, scores=np.asarray(means, np.float32)))


def _in_image(located: Located, row: int, part: Part, record: Record) -> Found:
    """The detections of a part, in pixels of the image."""
    used = located.detections.valid[row]
    one = Detections(*(leaf[row][used] for leaf in located.detections))
    scale_xy = located.scale_hw[row, ::-1]
    offset = np.float32([part.x, part.y])

    def place(corners: Float[np.ndarray, "n k 2"]) -> Float[np.ndarray, "n k 2"]:
        return _mirrored(corners / scale_xy, part) + offset

    boxes, rois = (place(leaf.reshape(-1, 2, 2)) for leaf in (one.boxes, one.rois))
    if part.flip:  # left and right change places
        boxes, rois = (_swapped(corners) for corners in (boxes, rois))
    ends = np.float32([part.x, part.y, part.x + part.width, part.y + part.height])
    inner = np.array([part.x > 0, part.y > 0, ends[2] < record.width, ends[3] < record.height])
    boxes = boxes.reshape(-1, 4)
    cut = ((np.abs(boxes - ends) <= _BORDER) & inner).any(axis=1)
    centres = place(one.mask_centres)
    masks = one.masks[..., ::-1] if part.flip else one.masks
    leaves = (boxes, one.scores, one.labels, rois.reshape(-1, 4), centres, one.mask_sigmas / scale_xy, masks)
    return Found(*(leaf.astype(np.float32) if leaf.dtype.kind == "f" else leaf for leaf in leaves), cut)


def _mirrored(points: Float[np.ndarray, "n k 2"], part: Part) -> Float[np.ndarray, "n k 2"]:
    return points * (-1, 1) + (part.width, 0) if part.flip else points


def _swapped(corners: Float[np.ndarray, "n 2 2"]) -> Float[np.ndarray, "n 2 2"]:
    return np.stack([corners[:, ::-1, 0], corners[..., 1]], axis=-1)


def _best_first(found: Found) -> Found:
    order = np.argsort(-found.scores, kind="stable")
    return Found(*(leaf[order] for leaf in found))


def _intersections(boxes: Float[np.ndarray, "n 4"]) -> tuple[Float[np.ndarray, "n n"], Float[np.ndarray, "n"]]:
    """Areas of the intersection of every pair, and of every box."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    return np.maximum(high - low, 0).prod(axis=-1), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def _ious(boxes: Float[np.ndarray, "n 4"], box: Float[np.ndarray, "4"]) -> Float[np.ndarray, "n"]:
    intersection, areas = _intersections(np.concatenate([boxes, box[None]]))
    union = areas[:-1] + areas[-1] - intersection[-1, :-1]
    return intersection[-1, :-1] / np.maximum(union, 1e-9)


def _as_located(index: int, found: Found, max_detections: int) -> Located:
    """A batch of one image, in pixels of the image: its scale is 1."""
    kept = Found(*(leaf[:max_detections] for leaf in found))
    missing = max_detections - len(kept.scores)
    valid = np.arange(max_detections) < len(kept.scores)
    leaves = {
        name: np.pad(leaf, [(0, missing)] + [(0, 0)] * (leaf.ndim - 1))[None]
        for name, leaf in kept._asdict().items()
        if name != "cut"
    }
    return Located(np.array([index]), np.ones((1, 2), np.float32), Detections(**leaves, valid=valid[None]))
