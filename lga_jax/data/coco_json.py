"""A folder of images with annotations in COCO's JSON format, the format most people have."""

import hashlib
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from lga_jax.data.coco_schema import category_names, check_files_exist, parse_coco
from lga_jax.data.images import decode_image
from lga_jax.data.records import Record
from lga_jax.errors import UserError

_LOG = logging.getLogger(__name__)


class CocoJson:
    """Images in root/images and their boxes in root/annotations, a COCO "instances" file.

    Categories become labels 0..k-1 in the order of their ids, whatever gaps the ids have. Boxes without an area and
    boxes outside their image are left out and counted; boxes partly outside are clipped for training.
    """

    def __init__(self, root: str, annotations: str, images: str, skip_empty: bool) -> None:
        """Reads the annotations. Raises UserError for what cannot be read as COCO JSON, naming file and fault.

        skip_empty: images without a box to train on are no records, for training alone: a score needs every image.
        """
        self._annotations = Path(root, annotations)
        self._images = Path(root, images)
        _check_exists(Path(root), "data root", Path.is_dir)
        _check_exists(self._annotations, "annotation file", Path.is_file)
        _check_exists(self._images, "image folder", Path.is_dir)
        data = self._annotations.read_bytes()
        self.fingerprint = hashlib.sha256(data).hexdigest()
        truth = parse_coco(data, str(self._annotations))
        file_names = [image["file_name"] for image in truth["images"]]
        check_files_exist(self._images, file_names)
        names = category_names(truth)
        columns = _columns(truth, list(names))
        records = _records(truth["images"], columns)
        used = [number for number, record in enumerate(records) if not (skip_empty and _is_empty(record))]
        if not used:
            raise UserError(
                f"{self._annotations}: expected an image with a box to train on (skip_empty leaves out the others),"
                f" found none among {len(records)}; correct the boxes, or skip_empty=False trains on background"
            )
        self.class_names = tuple(names.values())
        self.records = [records[number] for number in used]
        self._file_names = [file_names[number] for number in used]
        self.report = [
            f"{self._annotations}: {len(records)} images, {columns.usable.sum()} boxes, {len(names)} classes",
            *_counted(records, columns, skip_empty),
        ]
        self._truncated: set[int] = set()

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB pixels of records[index]. A truncated JPEG gives what is there; the log says so once for each file."""
        path, record = self._images / self._file_names[index], self.records[index]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: expected a readable image file, found {error.strerror}; restore it") from error
        image, truncated = decode_image(data, str(path), (record.height, record.width))
        if image.shape[:2] != (record.height, record.width):
            raise UserError(
                f"{path}: expected {record.width} x {record.height} pixels as {self._annotations} says, found"
                f" {image.shape[1]} x {image.shape[0]}; correct the width and height there, and check the boxes"
            )
        if truncated and index not in self._truncated:
            self._truncated.add(index)
            _LOG.warning("%s: truncated, the missing part is grey (%d such files so far)", path, len(self._truncated))
        return image

    def coco_json(self) -> dict:
        """The file's content for pycocotools: `info`, `area` and `iscrowd` everywhere, only boxes that can be used.

        All images of the file are there, also those that skip_empty leaves out of `records`. Annotation ids are counted
        anew from 1: pycocotools takes the id 0 for "no match" and loses ids that repeat.
        The file is read anew at every call, because few need it and COCO's training set would fill gigabytes.
        """
        data = self._annotations.read_bytes()
        if hashlib.sha256(data).hexdigest() != self.fingerprint:
            raise UserError(f"{self._annotations}: expected the file that was opened, found it changed; start again")
        truth = parse_coco(data, str(self._annotations))
        names = category_names(truth)
        usable = _columns(truth, list(names)).usable
        kept = [annotation for annotation, keep in zip(truth["annotations"], usable, strict=True) if keep]
        return {
            **truth,
            "info": truth.get("info") or {},
            "categories": [{**category, "name": names[category["id"]]} for category in truth["categories"]],
            "annotations": [_completed(annotation, number) for number, annotation in enumerate(kept, start=1)],
        }


class _Columns(NamedTuple):
    """All annotations of a file, one row each."""

    image: Int[np.ndarray, "n"]  # position in 'images'
    boxes: Float[np.ndarray, "n 4"]  # xyxy, clipped to the image
    labels: Int[np.ndarray, "n"]
    crowd: Bool[np.ndarray, "n"]
    degenerate: Bool[np.ndarray, "n"]  # no area, or not finite
    outside: Bool[np.ndarray, "n"]  # an area, but none of it in the image

    @property
    def usable(self) -> Bool[np.ndarray, "n"]:
        return ~(self.degenerate | self.outside)


def _columns(truth: Mapping, category_ids: list[int]) -> _Columns:
    annotations, images = truth["annotations"], truth["images"]
    position = {image["id"]: i for i, image in enumerate(images)}
    label = {category: i for i, category in enumerate(category_ids)}
    image = np.array([position[a["image_id"]] for a in annotations], np.int64)
    limit = np.array([[i["width"], i["height"]] for i in images], np.float64)[image]
    xywh = np.array([a["bbox"] for a in annotations], np.float64).reshape(-1, 4)
    with np.errstate(over="ignore", invalid="ignore"):
        x1y1, x2y2 = xywh[:, :2], xywh[:, :2] + xywh[:, 2:]
        degenerate = ~(np.isfinite(xywh).all(1) & (xywh[:, 2:] > 0).all(1))
        outside = ~degenerate & ~((x1y1 < limit) & (x2y2 > 0)).all(1)
        boxes = np.concatenate([np.maximum(x1y1, 0), np.minimum(x2y2, limit)], 1).astype(np.float32)
        # An area that float32 cannot tell from none would divide by zero in the coder of boxes.
        degenerate |= ~outside & ~(boxes[:, 2:] > boxes[:, :2]).all(1)
    return _Columns(
        image=image,
        boxes=boxes,
        labels=np.array([label[a["category_id"]] for a in annotations], np.int32),
        crowd=np.array([bool(a.get("iscrowd")) for a in annotations], bool),
        degenerate=degenerate,
        outside=outside,
    )


def _records(images: list[dict], columns: _Columns) -> list[Record]:
    rows = np.flatnonzero(columns.usable)
    rows = rows[np.argsort(columns.image[rows], kind="stable")]
    ends = np.cumsum(np.bincount(columns.image[rows], minlength=len(images)))[:-1]
    parts = (np.split(column[rows], ends) for column in (columns.boxes, columns.labels, columns.crowd))
    return [
        Record(image["id"], int(image["height"]), int(image["width"]), boxes, labels, crowd)
        for image, boxes, labels, crowd in zip(images, *parts, strict=True)
    ]


def _is_empty(record: Record) -> bool:
    """No box to train on: none at all, or crowds only."""
    return bool(record.crowd.all())


def _counted(records: list[Record], columns: _Columns, skip_empty: bool) -> list[str]:
    fate = "left out" if skip_empty else "trained as background"
    counts = {
        f"images without boxes to train on: {fate}": sum(map(_is_empty, records)),
        "crowd boxes: ignored in training, kept for evaluation": int((columns.crowd & columns.usable).sum()),
        "degenerate boxes (no area, or not finite): left out": int(columns.degenerate.sum()),
        "boxes outside their image: left out": int(columns.outside.sum()),
    }
    return [f"{count} {what}" for what, count in counts.items() if count]


def _completed(annotation: Mapping, number: int) -> dict:
    area = annotation.get("area")
    if area is None or not math.isfinite(area):
        area = annotation["bbox"][2] * annotation["bbox"][3]
    return {**annotation, "id": number, "area": area, "iscrowd": int(annotation.get("iscrowd") or 0)}


def _check_exists(path: Path, what: str, is_there: Callable[[Path], bool]) -> None:
    if not is_there(path):
        raise UserError(f"{what}: expected it at {path}, found none there; correct the config's data section")
