"""A source that reads data sets of TensorFlow Datasets (TFDS) without TensorFlow.

Any object detection data set in the format array_record works; `lga_jax prepare` writes this format.
lga_jax.data.tfds.split describes the conversion of boxes, labels and areas.
"""

import hashlib

import numpy as np
from jaxtyping import UInt8

from lga_jax.data.annotations import count_unusable, is_empty, make_columns, report_counts, to_records
from lga_jax.data.decode import AnnotatedImages
from lga_jax.data.tfds.index import Index, read_index
from lga_jax.data.tfds.split import TfdsSplit
from lga_jax.errors import UserError


class TfdsSource:
    """Images and boxes of a prepared data set.

    An image id is COCO's id, or in other data sets the file name. Boxes without an area, boxes outside their image and
    images of unknown size are left out and counted; boxes partly outside are clipped for training.
    """

    def __init__(self, name: str, data_dir: str, split: str, skip_empty: bool) -> None:
        """Reads all images of the split the first time, later a cached index. Raises UserError for faulty data.

        name: TFDS's name, such as "coco/2017" or "voc/2007".
        data_dir: the folder of TFDS's data sets.
        split: in TFDS's notation: "train", "train+validation", "train[:10%]". The images are in TFDS's shuffled order.
        skip_empty: leave out images without a box to train on. For training only: a score needs every image.
        """
        self._split = TfdsSplit(name, data_dir, split)
        self._index = read_index(self._split)
        where = f"{name} {split} in {data_dir}"
        _check(self._index, where, len(self._split.categories))
        self._columns = make_columns(
            np.repeat(np.arange(len(self._index.number)), self._index.num_objects),
            self._index.boxes_original,
            self._index.labels,
            self._index.crowd,
            self._index.hw,
        )
        records = to_records(self._index.image_id.tolist(), self._index.hw, self._columns)
        self.unusable_boxes = [count_unusable(self._columns, where, self._index.file_name.tolist())]
        self._used = [number for number, record in enumerate(records) if not (skip_empty and is_empty(record))]
        if not self._used:
            raise UserError(
                where,
                expected="an image with a box to train on (skip_empty leaves out the others)",
                found=f"none among {len(records)}",
                remedy="name another split, or set skip_empty=False to train on background",
            )
        self.class_names = tuple(self._split.categories.values())
        self.records = [records[number] for number in self._used]
        self.fingerprint = _fingerprint(self.class_names, self._index)
        self.report = [
            f"{where}: {len(records)} images, {self._columns.usable.sum()} boxes, {len(self.class_names)} classes",
            *report_counts(records, self._columns, skip_empty),
        ]
        if unreadable := len(self._split) - len(records):
            self.report.append(f"{unreadable} images of unknown size: left out, also from evaluation")
        self._decoder = AnnotatedImages(where, "correct the annotations and prepare the data set again")

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB pixels of records[index]. A truncated JPEG gives the pixels so far; the log warns once per file."""
        number, record = self._used[index], self.records[index]
        name = f"{self._split.where}: {self._index.file_name[number]}"
        data = self._split.image(int(self._index.number[number]))
        return self._decoder.decode(data, name, (record.height, record.width))

    def truth(self) -> dict:
        """Ground truth for pycocotools: all images of known size and all usable boxes, unclipped.

        Annotation ids are counted from 1, because pycocotools treats the id 0 as "no match".
        """
        index, usable = self._index, self._columns.usable
        ids, category_ids = index.image_id.tolist(), list(self._split.categories)
        xywh = np.concatenate(
            [index.boxes_original[:, :2], index.boxes_original[:, 2:] - index.boxes_original[:, :2]], 1
        )
        images = zip(ids, index.file_name.tolist(), index.hw.tolist(), strict=True)
        columns = (self._columns.image, index.labels, xywh, index.areas, index.crowd.astype(int))
        annotations = zip(*(column[usable].tolist() for column in columns), strict=True)
        return {
            "info": {},
            "images": [
                {"id": image_id, "file_name": file_name, "height": height, "width": width}
                for image_id, file_name, (height, width) in images
            ],
            "categories": [{"id": number, "name": name} for number, name in self._split.categories.items()],
            "annotations": [
                {
                    "id": number,
                    "image_id": ids[image],
                    "category_id": category_ids[label],
                    "bbox": bbox,
                    "area": area,
                    "iscrowd": crowd,
                }
                for number, (image, label, bbox, area, crowd) in enumerate(annotations, start=1)
            ],
        }


def _check(index: Index, where: str, num_classes: int) -> None:
    """Raises UserError if there are no images, repeated image ids or labels out of range."""
    if not len(index.number):
        raise UserError(
            where,
            expected="images of known size",
            found="none",
            remedy="prepare the data set again",
        )
    unique, counts = np.unique(index.image_id, return_counts=True)
    if len(unique) < len(index.image_id):
        found = f"{unique[counts.argmax()]} {counts.max()} times"
        raise UserError(
            f"image ids of {where}",
            expected="unique ids",
            found=found,
            remedy="name a split without repeated images",
        )
    wrong = index.labels[(index.labels < 0) | (index.labels >= num_classes)]
    if len(wrong):
        raise UserError(
            f"labels of {where}",
            expected=f"0..{num_classes - 1}",
            found=f"{wrong[0]} and {len(wrong) - 1} more outside",
            remedy="prepare the data set again",
        )


def _fingerprint(class_names: tuple[str, ...], index: Index) -> str:
    digest = hashlib.sha256(repr(class_names).encode())
    for column in index:
        digest.update(np.ascontiguousarray(column))
    return digest.hexdigest()
