"""Sets that TensorFlow Datasets (TFDS) prepared, found in a data_dir and opened without TensorFlow."""

import contextlib
import difflib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import array_record  # noqa: F401  TFDS reads with it, but brings it along on Linux alone
import tensorflow_datasets as tfds

from lga_jax.errors import UserError


def prepare_command(name: str, data_dir: str) -> str:
    """What to type so that a set is there."""
    return f"python -m lga_jax.data.tfds.prepare {name.partition(':')[0]} --data_dir {data_dir}"


def find_folder(name: str, data_dir: str) -> Path:
    """The folder of a prepared set: the newest version, unless the name ends with one, as "coco/2017:1.1.0" does."""
    root = Path(os.path.expanduser(data_dir))
    path, _, version = name.partition(":")
    found = [folder for folder in _versions((root / path).glob("*")) if version in ("", folder.name)]
    if found:
        return max(found, key=lambda folder: tuple(map(int, folder.name.split("."))))
    folders = {folder.parent for depth in ("*/*", "*/*/*") for folder in _versions(root.glob(depth))}
    names = sorted(str(folder.relative_to(root)) for folder in folders)
    nearest = difflib.get_close_matches(name, names, n=1)
    remedy = f"did you mean {nearest[0]!r}? If not: " if nearest else ""
    raise UserError(
        str(root),
        expected=f"the set {name!r}, prepared by TFDS",
        found=", ".join(names) or "none",
        remedy=f"{remedy}{prepare_command(name, data_dir)}",
    )


def open_builder(folder: Path) -> tfds.core.DatasetBuilder:
    """What TFDS knows of a prepared set. Raises UserError for damaged metadata, and for files of another format.

    TFDS imports whatever module a set's features.json names. Data have no say in which code runs: only TFDS's own does.
    """
    find = tfds.features.FeatureConnector.cls_from_name

    def find_in_tfds(name: str) -> type:
        if not name.startswith("tensorflow_datasets."):
            raise UserError(
                str(folder / "features.json"),
                expected="feature types of TFDS alone",
                found=f"{name!r}, which is not imported",
                remedy="prepare the set with a builder that does without it",
            )
        return find(name)

    with naming_damage(f"metadata of {folder}"):
        with mock.patch.object(tfds.features.FeatureConnector, "cls_from_name", find_in_tfds):
            builder = tfds.builder_from_directory(folder)
        formats = [file_format.value for file_format in builder.info.available_file_formats()]
    if "array_record" not in formats:
        raise UserError(
            str(folder),
            expected="files of the format array_record, which can be read in any order",
            found=", ".join(formats),
            remedy="move it away and prepare it anew",
        )
    return builder


def open_examples(builder: tfds.core.DatasetBuilder, folder: Path, split: str) -> Any:
    """Random access to the serialized examples of a split such as "train", "train+validation" or "train[:10%]"."""
    try:
        if builder.info.splits[split].num_examples:
            return builder.as_data_source(
                split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES, file_format="array_record"
            )
        fault = "no images"
    except ValueError as error:
        fault = one_line(error)
    known = ", ".join(f"{name} ({info.num_examples} images)" for name, info in builder.info.splits.items())
    raise UserError(
        f"split {split!r} of {folder}",
        expected=f"one of {known}",
        found=fault,
        remedy="correct `split`",
    )


@contextlib.contextmanager
def naming_damage(part: str) -> Iterator[None]:
    """Makes a UserError of whatever reading a part of a set raises."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of many kinds: from JSON, protobuf, TFDS and array_record
        raise UserError(
            part,
            expected="what TFDS wrote",
            found=f"it damaged ({one_line(error)})",
            remedy="restore it, or remove it and prepare it anew",
        ) from error


def one_line(error: Exception) -> str:
    """The message of an exception that was not made for one line."""
    return " ".join(str(error).split())[:200]


def _versions(folders: Iterable[Path]) -> list[Path]:
    version = re.compile(r"\d+\.\d+\.\d+")
    return [folder for folder in folders if version.fullmatch(folder.name) and (folder / "dataset_info.json").is_file()]
