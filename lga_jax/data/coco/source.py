"""A folder of images with annotations in COCO's JSON format, the format most people have."""

import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from lga_jax.data.annotations import Columns, is_empty, make_columns, report_counts, to_records
from lga_jax.data.coco.box_format import report_layout
from lga_jax.data.coco.schema import category_names, check_files_exist, parse_coco
from lga_jax.data.decode import decode_image, read_image_file
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
        root = os.path.expanduser(root)
        self._annotations, self._images = Path(root, annotations), Path(root, images)
        _check_exists(Path(root), "data root", os.path.isdir)
        _check_exists(self._annotations, "annotation file", os.path.isfile)
        _check_exists(self._images, "image folder", os.path.isdir)
        data = self._read_annotations()
        self.fingerprint = hashlib.sha256(data).hexdigest()
        truth = parse_coco(data, str(self._annotations))
        file_names = [image["file_name"] for image in truth["images"]]
        check_files_exist(self._images, file_names)
        names = category_names(truth)
        columns = read_columns(truth, names)
        records = to_records([image["id"] for image in truth["images"]], read_hw(truth), columns)
        used = [number for number, record in enumerate(records) if not (skip_empty and is_empty(record))]
        if not used:
            raise UserError(
                str(self._annotations),
                expected="an image with a box to train on (skip_empty leaves out the others)",
                found=f"none among {len(records)}",
                remedy="correct the boxes, or skip_empty=False trains on background",
            )
        self.class_names = tuple(names.values())
        self.records = [records[number] for number in used]
        self.file_names = [file_names[number] for number in used]
        self.report = [
            f"{self._annotations}: {len(records)} images, {columns.usable.sum()} boxes, {len(names)} classes",
            *report_counts(records, columns, skip_empty),
            *report_layout(read_xywh(truth), read_hw(truth)[columns.image][:, ::-1]),
        ]
        self._truncated: set[int] = set()

    @property
    def paths(self) -> list[str]:
        """Where the file of each record lies."""
        folder = os.path.abspath(self._images)
        return [f"{folder}{os.sep}{name}" for name in self.file_names]

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB pixels of records[index]. A truncated JPEG gives what is there; the log says so once for each file."""
        path, record = self._images / self.file_names[index], self.records[index]
        image, truncated = decode_image(read_image_file(path), str(path), (record.height, record.width))
        if image.shape[:2] != (record.height, record.width):
            raise UserError(
                str(path),
                expected=f"{record.width} x {record.height} pixels as {self._annotations} says",
                found=f"{image.shape[1]} x {image.shape[0]}",
                remedy="correct the width and height there, and check the boxes",
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
        data = self._read_annotations()
        if hashlib.sha256(data).hexdigest() != self.fingerprint:
            raise UserError(
                str(self._annotations),
                expected="the file that was opened",
                found="it changed",
                remedy="start again",
            )
        truth = parse_coco(data, str(self._annotations))
        names = category_names(truth)
        usable = read_columns(truth, names).usable
        kept = [annotation for annotation, keep in zip(truth["annotations"], usable, strict=True) if keep]
        return {
            **truth,
            "info": truth.get("info") or {},
            "categories": [{**category, "name": names[category["id"]]} for category in truth["categories"]],
            "annotations": [_completed(annotation, number) for number, annotation in enumerate(kept, start=1)],
        }

    def _read_annotations(self) -> bytes:
        try:
            return self._annotations.read_bytes()
        except OSError as error:
            raise UserError(
                f"annotation file {self._annotations}",
                expected="to read it",
                found=str(error.strerror),
                remedy="make it readable",
            ) from error


def read_columns(truth: Mapping, category_ids: Iterable[int]) -> Columns:
    """The boxes of a file whose entries are checked; labels are positions in `category_ids`."""
    annotations = truth["annotations"]
    position = {image["id"]: i for i, image in enumerate(truth["images"])}
    label = {category: i for i, category in enumerate(category_ids)}
    xywh = read_xywh(truth)
    with np.errstate(over="ignore", invalid="ignore"):
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    return make_columns(
        image=np.array([position[annotation["image_id"]] for annotation in annotations], np.int64),
        xyxy=xyxy,
        labels=np.array([label[annotation["category_id"]] for annotation in annotations], np.int64),
        crowd=np.array([bool(annotation.get("iscrowd")) for annotation in annotations], bool),
        hw=read_hw(truth),
    )


def read_xywh(truth: Mapping) -> Float[np.ndarray, "n 4"]:
    """The boxes as annotated, of a file whose entries are checked."""
    return np.array([annotation["bbox"] for annotation in truth["annotations"]], np.float64).reshape(-1, 4)


def read_hw(truth: Mapping) -> Int[np.ndarray, "m 2"]:
    """Height and width of the images of a file whose entries are checked."""
    return np.array([[image["height"], image["width"]] for image in truth["images"]], np.int64).reshape(-1, 2)


def _completed(annotation: Mapping, number: int) -> dict:
    area = annotation.get("area")
    if area is None or not math.isfinite(area):
        area = annotation["bbox"][2] * annotation["bbox"][3]
    return {**annotation, "id": number, "area": area, "iscrowd": int(annotation.get("iscrowd") or 0)}


def _check_exists(path: Path, what: str, is_there: Callable[[Path], bool]) -> None:
    if not is_there(path):
        raise UserError(
            what,
            expected=f"it at {path}",
            found="none there",
            remedy="correct the path",
        )
