"""Reads one split of a data set of TensorFlow Datasets (TFDS), image by image.

COCO's evaluation needs other values than TFDS stores. This module converts them:

- TFDS's boxes are (ymin, xmin, ymax, xmax) as fractions of the image in float32. Converted to pixels they are within
  1e-4 of the original in an image of 1000 pixels. VOC counts pixels from 1 and includes both ends, so the upper left
  corner moves by -1.
- TFDS's COCO labels are 0..79; COCO's category ids, which have gaps, are restored. Data sets of `lga_jax prepare`
  contain their ids; in all others the id is the label + 1.
- TFDS truncates COCO's areas to integers. Half a pixel is added, so that an object keeps its size class (small, medium,
  large), unless its area was exactly 1024 or 9216. Without a stored area, the area of the box is used.
- VOC's difficult objects and Open Images' groups become crowds: not trained on, ignored by the evaluation. COCO's
  evaluation ignores any detection inside a crowd, VOC's only one that overlaps the difficult object by half or more.
- Sizes are read from the headers of the images, unless the data set stores them.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Bool, Float, Int

from lga_jax.data.decode import MAX_PIXELS, stored_hw
from lga_jax.data.source import ImageId
from lga_jax.data.tfds.store import find_folder, naming_damage, open_builder, open_examples
from lga_jax.errors import UserError

_COCO_UNUSED_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}  # the gaps in 1..90, in the releases of 2014 and 2017
_IMAGE_KEYS = ("image", "image/id", "image/filename", "image/height", "image/width")
_CROWD_KEYS = ("is_crowd", "is_difficult", "is_group_of")
_OBJECT_KEYS = ("bbox", "label", "area", *_CROWD_KEYS)


class Row(NamedTuple):
    """The annotations of one image; boxes are neither clipped nor checked."""

    image_id: ImageId
    file_name: str
    hw: tuple[int, int]  # pixels
    boxes_original: Float[np.ndarray, "n 4"]  # xyxy in pixels
    labels: Int[np.ndarray, "n"]
    crowd: Bool[np.ndarray, "n"]
    areas: Float[np.ndarray, "n"]  # pixels


class TfdsSplit:
    """Random access to the images of a split. `image` and `row` may be called from several threads."""

    def __init__(self, name: str, data_dir: str, split: str) -> None:
        """`name` and `split` in TFDS's notation. Raises UserError if they do not exist or cannot be read."""
        self.folder = find_folder(name, data_dir)
        self.where = f"{self.folder} {split}"
        builder = open_builder(self.folder)
        self._examples = open_examples(builder, self.folder, split)
        self._objects = find_objects(builder.info.features, str(self.folder))
        self._image = _features(builder.info.features, ("image",))
        self._annotated = _features(builder.info.features, _IMAGE_KEYS, self._objects)
        is_voc = builder.name == "voc" and "is_difficult" in self._annotated[self._objects].feature
        self._first_pixel = int(is_voc)  # a prepared COCO folder may also have the name voc
        label = self._annotated[self._objects].feature["label"]
        names = label.get_names_filepath(self.folder, f"{self._objects}-label")
        if not names.exists():
            raise UserError(
                str(names),
                expected="a file of class names",
                found="none",
                remedy="restore it",
            )
        with naming_damage(self.where):
            self.categories = _categories(builder, label)
            self.digest = _digest(self.folder, split, builder.info.splits[split].filepaths)

    def __len__(self) -> int:
        return len(self._examples)

    def image(self, number: int) -> bytes:
        """The bytes of an image file."""
        return self._example(number, self._image)["image"]

    def row(self, number: int) -> Row:
        """The annotations of an image. Raises UnreadableImageError if neither data set nor image has its size."""
        example = self._example(number, self._annotated)
        with naming_damage(f"{self.where}: example {number}"):
            file_name = example.get("image/filename", str(number).encode()).decode()
            image_id = example.get("image/id", file_name)
            image_id = image_id.decode() if isinstance(image_id, bytes) else image_id
        name = f"{self.where}: {file_name}"
        if "image/height" in example:
            hw = int(example["image/height"]), int(example["image/width"])
            if min(hw) < 1 or hw[0] * hw[1] > MAX_PIXELS:
                raise UserError(
                    name,
                    expected=f"a height and width of 1 to {MAX_PIXELS} pixels in total",
                    found=f"{hw[0]} and {hw[1]}",
                    remedy="correct the annotations and prepare the data set again",
                )
        else:
            hw = stored_hw(example["image"], name)
        objects = example[self._objects]
        boxes = self._to_pixels(np.array(objects["bbox"], np.float64).reshape(-1, 4), hw)
        # Open Images has -1 for unknown.
        marks = [np.array(objects[key], np.int64) > 0 for key in _CROWD_KEYS if key in objects]
        return Row(
            image_id=image_id,
            file_name=file_name,
            hw=hw,
            boxes_original=boxes,
            labels=np.array(objects["label"], np.int32),
            crowd=np.any([np.zeros(len(boxes), bool), *marks], axis=0),
            areas=_areas(objects.get("area"), boxes),
        )

    def _example(self, number: int, features: tfds.features.FeaturesDict) -> dict[str, Any]:
        with naming_damage(f"{self.where}: example {number}"):
            decoders = {"image": tfds.decode.SkipDecoding()}
            example = features.deserialize_example_np(self._examples[number], decoders=decoders)
            if example["image"] is None:  # array_record gives empty examples for a truncated file
                raise ValueError("it has no image")
            return example

    def _to_pixels(self, yxyx: Float[np.ndarray, "n 4"], hw: tuple[int, int]) -> Float[np.ndarray, "n 4"]:
        return (yxyx * (*hw, *hw) - (self._first_pixel, self._first_pixel, 0, 0))[:, [1, 0, 3, 2]]


def find_objects(features: tfds.features.FeaturesDict, where: str) -> str:
    """The key of the annotated objects. Raises UserError for a data set without object detection."""
    for key, feature in sorted(features.items()):
        inner = getattr(feature, "feature", None)
        if "image" in features and isinstance(inner, tfds.features.FeaturesDict) and _is_object(dict(inner.items())):
            return key
    raise UserError(
        where,
        expected="an image and a sequence of objects with a label and a bbox relative to the image",
        found=f"the features {', '.join(sorted(features))}",
        remedy="name an object detection data set",
    )


def _is_object(features: dict[str, tfds.features.FeatureConnector]) -> bool:
    bbox, label = features.get("bbox"), features.get("label")
    # Older versions of TFDS do not store the format; they had only this one.
    relative = getattr(bbox, "bbox_format", None) in (None, tfds.features.bounding_boxes.bb_utils.BBoxFormat.REL_YXYX)
    return isinstance(bbox, tfds.features.BBoxFeature) and relative and isinstance(label, tfds.features.ClassLabel)


def _features(
    features: tfds.features.FeaturesDict, keys: tuple[str, ...], objects: str | None = None
) -> tfds.features.FeaturesDict:
    """The needed features; others, such as segmentation masks, are not decoded."""
    chosen = {key: features[key] for key in keys if key in features}
    if objects is not None:
        inner = features[objects].feature
        chosen[objects] = tfds.features.Sequence({key: inner[key] for key in _OBJECT_KEYS if key in inner})
    return tfds.features.FeaturesDict(chosen)


def _categories(builder: tfds.core.DatasetBuilder, label: tfds.features.ClassLabel) -> dict[int, str]:
    """Category id -> name, in the order of the labels."""
    if label.num_classes != len(label.names):  # before a list of that length is made
        raise ValueError(f"{label.num_classes} classes have {len(label.names)} names")
    ids = list(range(1, label.num_classes + 1))
    if builder.name == "coco" and label.num_classes == 80:
        ids = [number for number in range(1, 91) if number not in _COCO_UNUSED_IDS]
    ids = [int(number) for number in builder.info.metadata.get("category_ids", ids)]
    return dict(zip(ids, label.names, strict=True))


def _areas(stored: list | None, boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n"]:
    if stored is None:
        return (boxes[:, 2:] - boxes[:, :2]).prod(1)
    areas = np.array(stored)
    return areas + 0.5 if areas.dtype.kind == "i" else areas.astype(np.float64)


def _digest(folder: Path, split: str, files: list) -> str:
    """Identifies the data of a split by metadata and modification times; array_record rounds file sizes up."""
    digest = hashlib.sha256(split.encode())
    for name in ("dataset_info.json", "features.json"):
        digest.update((folder / name).read_bytes())
    for path in map(Path, files):
        digest.update(f"{path.name} {path.stat().st_mtime_ns}".encode())
    return digest.hexdigest()
