"""A folder of images with annotations in COCO's JSON format."""

import hashlib
import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from lga_jax.data.annotations import (
    Columns,
    count_unusable,
    is_empty,
    make_columns,
    report_counts,
    rows_of_images,
    to_records,
)
from lga_jax.data.coco.box_format import report_layout
from lga_jax.data.coco.faults import Fault
from lga_jax.data.coco.image_files import describe_changes, find_image_files
from lga_jax.data.coco.schema import category_names, parse_coco, read_annotation_file, refuse
from lga_jax.data.coco.segmentations import count_faults, read_masks
from lga_jax.data.decode import AnnotatedImages, read_image_file
from lga_jax.data.federated import report_lists, verified_labels
from lga_jax.data.object_masks import ObjectMask
from lga_jax.data.source import MaskCounts
from lga_jax.errors import UserError


class CocoJson:
    """Images in root/images and their boxes in root/annotations, a COCO "instances" file.

    Categories become labels 0..k-1 in the order of their ids; ids may have gaps. Boxes without an area and boxes
    outside their image are left out and counted; boxes partly outside are clipped for training. Files of LVIS have
    lists of verified classes (`federated.py`), and a `coco_url` instead of `file_name`.
    """

    def __init__(self, root: str, annotations: str, images: str, skip_empty: bool) -> None:
        """Reads the annotations. Raises UserError with file and fault if they are not COCO JSON.

        skip_empty: leave out images without a box to train on. For training only: a score needs every image.
        """
        root = os.path.expanduser(root)
        self._annotations, self._images = Path(root, annotations), Path(root, images)
        _check_exists(Path(root), "data root", "a folder", os.path.isdir)
        _check_exists(self._annotations, "annotation file", "a file", os.path.isfile)
        _check_exists(self._images, "image folder", "a folder", os.path.isdir)
        data = read_annotation_file(self._annotations)
        self.fingerprint = hashlib.sha256(data).hexdigest()
        truth, notes = parse_coco(data, str(self._annotations))
        written = {position: image["file_name"] for position, image in enumerate(truth["images"])}
        files = find_image_files(self._images, written)
        _refuse_files(files.faults, str(self._annotations), f"image folder {self._images}")
        names = category_names(truth)
        columns = read_columns(truth, names)
        verified = verified_labels(truth, names)
        records = to_records([image["id"] for image in truth["images"]], read_hw(truth), columns, verified)
        self.unusable_boxes = [count_unusable(columns, str(self._annotations), list(written.values()))]
        used = [number for number, record in enumerate(records) if not (skip_empty and is_empty(record))]
        if not used:
            raise UserError(
                str(self._annotations),
                expected="an image with a box to train on (skip_empty leaves out the others)",
                found=f"none among {len(records)}",
                remedy="correct the boxes, or set skip_empty=False to train on background",
            )
        self.class_names = tuple(names.values())
        self.records = [records[number] for number in used]
        self.file_names = [files.paths[number] for number in used]  # relative to the image folder
        self._used, self._masks, self._mask_lock = used, None, threading.Lock()
        self.report = [
            f"{self._annotations}: {len(records)} images, {columns.usable.sum()} boxes, {len(names)} classes",
            *notes,
            *report_lists(truth, verified),
            *describe_changes(written, files),
            *report_counts(records, columns, skip_empty),
            *report_layout(read_xywh(truth), read_hw(truth)[columns.image][:, ::-1]),
        ]
        self._decoder = AnnotatedImages(
            str(self._annotations), "correct the annotated width and height, and check the boxes"
        )

    @property
    def paths(self) -> list[str]:
        """The file of each record."""
        folder = os.path.abspath(self._images)
        return [f"{folder}{os.sep}{name}" for name in self.file_names]

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB pixels of records[index]. A truncated JPEG gives the pixels so far; the log warns once per file."""
        path, record = self._images / self.file_names[index], self.records[index]
        return self._decoder.decode(read_image_file(path), str(path), (record.height, record.width))

    def truth(self) -> dict:
        """The file's content for pycocotools: `info`, `area` and `iscrowd` are always set; unusable boxes are left out.

        It has all images of the file, also those that skip_empty leaves out of `records`. Annotation ids are renumbered
        from 1: pycocotools treats the id 0 as "no match" and loses repeated ids.
        Every call reads the file again, because calls are rare and COCO's training set would occupy gigabytes.
        """
        data = self._read_again()
        truth = parse_coco(data, str(self._annotations)).content
        names = category_names(truth)
        usable = read_columns(truth, names).usable
        kept = [annotation for annotation, keep in zip(truth["annotations"], usable, strict=True) if keep]
        return {
            **truth,
            "info": truth.get("info") or {},
            "categories": [{**category, "name": names[category["id"]]} for category in truth["categories"]],
            "annotations": [_completed(annotation, number) for number, annotation in enumerate(kept, start=1)],
        }

    def object_masks(self, index: int) -> Sequence[ObjectMask | None]:
        """The mask of each box of records[index]. The first call reads those of the whole file."""
        self.mask_counts()
        return self._masks[index]

    def mask_counts(self) -> list[MaskCounts]:
        """The number of boxes without a usable mask, by kind of fault."""
        with self._mask_lock:
            if self._masks is None:
                self._read_masks()
        return [self._mask_counts]

    def _read_masks(self) -> None:
        data = self._read_again()
        truth = parse_coco(data, str(self._annotations)).content
        columns = read_columns(truth, category_names(truth))
        masks = read_masks(data, range(len(columns.usable)), columns, read_hw(truth))
        rows = rows_of_images(columns, len(truth["images"]))
        usable = [[masks[row] for row in of_image.tolist()] for of_image in rows]
        faults = count_faults([mask for of_image in usable for mask in of_image])
        self._mask_counts = MaskCounts(str(self._annotations), int(columns.usable.sum()), faults)
        self._masks = [[None if isinstance(mask, str) else mask for mask in usable[number]] for number in self._used]

    def _read_again(self) -> bytes:
        data = read_annotation_file(self._annotations)
        if hashlib.sha256(data).hexdigest() != self.fingerprint:
            raise UserError(
                str(self._annotations),
                expected="the same content as at the start",
                found="another",
                remedy="start again",
            )
        return data


def read_columns(truth: Mapping, category_ids: Iterable[int]) -> Columns:
    """The boxes of a checked file; labels are positions in `category_ids`."""
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
    """The boxes of a checked file as annotated."""
    return np.array([annotation["bbox"] for annotation in truth["annotations"]], np.float64).reshape(-1, 4)


def read_hw(truth: Mapping) -> Int[np.ndarray, "m 2"]:
    """Height and width of the images of a checked file."""
    return np.array([[image["height"], image["width"]] for image in truth["images"]], np.int64).reshape(-1, 2)


def _completed(annotation: Mapping, number: int) -> dict:
    area = annotation.get("area")
    if area is None or not math.isfinite(area):
        area = annotation["bbox"][2] * annotation["bbox"][3]
    return {**annotation, "id": number, "area": area, "iscrowd": int(annotation.get("iscrowd") or 0)}


def _refuse_files(faults: Iterable[Fault], annotations: str, folder: str) -> None:
    """Raises UserError for the first fault of a file name; missing files are a fault of the folder."""
    for fault in faults:
        refuse([fault], folder if fault.kind == "images.file_missing" else annotations)


def _check_exists(path: Path, name: str, kind: str, is_there: Callable[[Path], bool]) -> None:
    if not is_there(path):
        raise UserError(
            f"{name} {path}",
            expected=kind,
            found="none",
            remedy="correct the path",
        )
