"""Prepares data sets for TfdsSource: those of TensorFlow Datasets (TFDS), or a folder with COCO annotations."""

import contextlib
import difflib
import importlib.util
import logging
import os
import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import importlib_resources  # noqa: F401  TFDS needs it for preparing, but does not install it
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader, extractor
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from lga_jax.data.coco.schema import category_names
from lga_jax.data.coco.source import CocoJson
from lga_jax.data.decode import read_image_file
from lga_jax.data.source import Source, is_federated
from lga_jax.data.tfds.source import TfdsSource
from lga_jax.data.tfds.split import find_objects
from lga_jax.data.tfds.store import one_line
from lga_jax.errors import UserError
from lga_jax.files import remedy_for_writing

_MAX_RETRIES = 5  # per download, with doubled waiting times: seconds in total without a network


def prepare_official(name: str, data_dir: str, manual_dir: str | None = None) -> list[str]:
    """Downloads and prepares a data set of TFDS such as "coco/2017"; returns report lines with its content.

    manual_dir: a folder with archives under their official names; missing archives are downloaded.
    Raises UserError for unknown names, data sets without object detection, and faulty archives or downloads.
    """
    if manual_dir is not None:
        manual_dir = os.path.expanduser(manual_dir)
        if not os.path.isdir(manual_dir):
            raise UserError(
                "--manual_dir",
                expected="a folder with archives",
                found=f"none at {manual_dir}",
                remedy="correct the path",
            )
    module = _find_official(name)
    with _naming_failures(name), _standing_in_for_tensorflow(module), _few_retries():
        builder = tfds.builder(name, data_dir=data_dir)
        find_objects(builder.info.features, name)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False),
            file_format="array_record",
        )
    return _index(name, data_dir, builder)


def prepare_coco_json(name: str, data_dir: str, root: str, splits: Mapping[str, tuple[str, str]]) -> list[str]:
    """Prepares a folder of images with COCO annotations; returns report lines with its content.

    splits: name of the split -> (annotation file, folder of images), both relative to root.
    Raises the errors of CocoJson, and UserError if splits have different classes or the data set exists already.
    """
    for word in (name, *splits):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", word):
            raise UserError(
                "name of a data set or split",
                expected="lower-case letters, digits and _, with a letter first",
                found=f"{word!r}",
                remedy="rename it",
            )
    if "all" in splits:
        raise UserError(
            "name of a split",
            expected="any name but 'all', which means all splits in TFDS",
            found="'all'",
            remedy="rename it",
        )
    builder = _FolderBuilder(name, data_dir, root, splits)
    if Path(builder.data_dir).exists():
        raise UserError(
            str(builder.data_dir),
            expected="no data set there yet",
            found="one",
            remedy="remove it or choose another --name",
        )
    try:
        builder.download_and_prepare()
    except UnicodeEncodeError as error:
        raise UserError(
            root,
            expected="file names that UTF-8 can encode",
            found=f"{error.object!r}",
            remedy="rename it",
        ) from error
    except OSError as error:
        raise UserError(
            data_dir,
            expected="a folder to write a data set to",
            found=one_line(error),
            remedy=remedy_for_writing(error),
        ) from error
    report = _index(name, data_dir, builder)
    if builder.num_clipped:
        report.append(f"{builder.num_clipped} boxes reach beyond their image: clipped, because TFDS requires it")
    return report


def find_leftovers(data_dir: str) -> list[str]:
    """One report line for each unfinished folder of a preparation that was killed or is still running."""
    root = Path(os.path.expanduser(data_dir))
    patterns = ("*/incomplete.*", "*/*/incomplete.*", "downloads/*.tmp.*", "downloads/*/*.tmp.*")
    return [
        f"{folder}: {_num_bytes(folder) / 2**20:.1f} MiB of an unfinished preparation; if it is not running any more,"
        f" remove it: rm -r {shlex.quote(str(folder))}"
        for folder in sorted({folder for pattern in patterns for folder in root.glob(pattern)})
    ]


def _num_bytes(folder: Path) -> int:
    total = 0
    with contextlib.suppress(OSError):  # a running preparation may remove the files
        for path in folder.rglob("*"):
            total += path.lstat().st_size
    return total


class _FolderBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Examples have the features of TFDS's coco, and also fractional areas, annotated sizes and category ids."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, name: str, data_dir: str, root: str, splits: Mapping[str, tuple[str, str]]) -> None:
        self.name = name
        self.num_clipped = 0
        self._sources = {split: CocoJson(root, *places, skip_empty=False) for split, places in splits.items()}
        for split, source in self._sources.items():
            _check_no_lists(split, source)
        truth = next(iter(self._sources.values())).truth()
        self._categories, self._id_kind = category_names(truth), type(truth["images"][0]["id"])
        for class_name in self._categories.values():
            if [class_name] != class_name.strip().split("\n") or not class_name:
                raise UserError(
                    "class names",
                    expected="one line without spaces at its ends",
                    found=f"{class_name!r}",
                    remedy="rename the class",
                )
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        objects = {
            "id": np.int64,
            "area": np.float32,
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(names=list(self._categories.values())),
            "is_crowd": np.bool_,
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(),
                    "image/filename": tfds.features.Text(),
                    "image/id": np.int64 if self._id_kind is int else tfds.features.Text(),
                    "image/height": np.int64,
                    "image/width": np.int64,
                    "objects": tfds.features.Sequence(objects),
                }
            ),
            metadata=tfds.core.MetadataDict(category_ids=list(self._categories)),
            disable_shuffling=True,  # keep the order of the annotation file; training shuffles
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in self._sources}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        truth = self._sources[split].truth()
        if category_names(truth) != self._categories or not isinstance(truth["images"][0]["id"], self._id_kind):
            raise UserError(
                f"split {split!r}",
                expected=f"the categories and the type of image ids of split {next(iter(self._sources))!r}",
                found="different ones",
                remedy="make both files agree, or prepare two data sets",
            )
        label = {number: position for position, number in enumerate(self._categories)}
        annotations = defaultdict(list)
        for annotation in truth["annotations"]:
            annotations[annotation["image_id"]].append(annotation)
        for position, (image, path) in enumerate(zip(truth["images"], self._sources[split].paths, strict=True)):
            height, width = int(image["height"]), int(image["width"])
            yield (
                position,
                {
                    "image": read_image_file(path),
                    "image/filename": image["file_name"],
                    "image/id": image["id"],
                    "image/height": height,
                    "image/width": width,
                    "objects": [
                        {
                            "id": annotation["id"],
                            "area": annotation["area"],
                            "bbox": self._relative(annotation["bbox"], height, width),
                            "label": label[annotation["category_id"]],
                            "is_crowd": bool(annotation["iscrowd"]),
                        }
                        for annotation in annotations[image["id"]]
                    ],
                },
            )

    def _relative(self, bbox: list[float], height: int, width: int) -> tfds.features.BBox:
        x, y, w, h = bbox
        edges = np.array([y / height, x / width, (y + h) / height, (x + w) / width])
        clipped = edges.clip(0, 1)
        self.num_clipped += bool((edges != clipped).any())
        return tfds.features.BBox(*clipped)


def _check_no_lists(split: str, source: Source) -> None:
    if is_federated(source):
        raise UserError(
            f"split {split!r}",
            expected="a file without lists of verified classes, which a prepared set cannot have",
            found="LVIS's lists",
            remedy="train on the file itself (source 'coco_json')",
        )


def _find_official(name: str) -> ModuleType:
    """The module of TFDS that prepares a data set. Raises UserError for an unknown name or configuration."""
    set_name, _, config = name.partition("/")
    known = tfds.list_builders(with_community_datasets=False)
    if set_name in known:
        builder_class = tfds.builder_cls(set_name)
        configs = [one.name for one in builder_class.BUILDER_CONFIGS] or [""]
        if config in configs:
            return sys.modules[builder_class.__module__]
        known = [f"{set_name}/{one}".rstrip("/") for one in configs]
    nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    raise UserError(
        name,
        expected="coco_json or the name of a TFDS data set such as coco/2017",
        found="an unknown name",
        remedy=f"the nearest: {', '.join(nearest)}" if nearest else "see https://www.tensorflow.org/datasets/catalog",
    )


@contextlib.contextmanager
def _standing_in_for_tensorflow(module: ModuleType) -> Iterator[None]:
    """Replaces the few functions of TensorFlow that TFDS needs to unpack archives and to read annotations."""
    with contextlib.ExitStack() as patches:
        if importlib.util.find_spec("tensorflow") is None:
            for user in (extractor, module):
                if hasattr(user, "tf"):
                    patches.enter_context(mock.patch.object(user, "tf", _TensorFlow()))
        yield


@contextlib.contextmanager
def _few_retries() -> Iterator[None]:
    """Without a network TFDS would retry for minutes, and urllib3 would log every attempt."""
    log = logging.getLogger("urllib3")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with mock.patch.object(downloader, "MAX_RETRIES", _MAX_RETRIES):
            yield
    finally:
        log.setLevel(level)


class _TensorFlow:
    int64 = np.int64
    io = SimpleNamespace(
        gfile=SimpleNamespace(
            GFile=lambda path, mode="r": open(path, mode, encoding=None if "b" in mode else "utf-8"),  # noqa: SIM115
        )
    )
    compat = SimpleNamespace(as_text=str)

    def __getattr__(self, name: str) -> Any:
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")


@contextlib.contextmanager
def _naming_failures(name: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            name,
            expected=f"the package {error.name!r}, needed to prepare it (not to train)",
            found="none",
            remedy=f"pip install {error.name}",
        ) from error
    except NonMatchingChecksumError as error:
        raise UserError(
            name,
            expected="an archive with TFDS's checksum",
            found=f"another ({one_line(error)})",
            remedy="remove the archive and run the command again",
        ) from error
    except (OSError, tfds.download.DownloadError, extractor.ExtractError) as error:
        raise UserError(
            name,
            expected="archives that can be downloaded and unpacked",
            found=one_line(error),
            remedy="run the command again, or put the archives into a folder and name it with --manual_dir",
        ) from error


def _index(name: str, data_dir: str, builder: tfds.core.DatasetBuilder) -> list[str]:
    """Opens every split once: this finds faults and writes the index that training reads."""
    return [
        line for split in builder.info.splits for line in TfdsSource(name, data_dir, split, skip_empty=False).report
    ]
