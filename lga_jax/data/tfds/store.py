"""Finds data sets of TensorFlow Datasets (TFDS) in a data_dir and opens them without TensorFlow."""

import contextlib
import difflib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import array_record  # noqa: F401  TFDS reads with it, but installs it on Linux only
import tensorflow_datasets as tfds

from lga_jax.errors import UserError


def prepare_command(name: str, data_dir: str) -> str:
    """The command that prepares a data set."""
    return f"lga_jax prepare {name.partition(':')[0]} --data_dir {data_dir}"


def find_folder(name: str, data_dir: str) -> Path:
    """The folder of a prepared data set: the newest version, or that of a name such as "coco/2017:1.1.0"."""
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
        expected=f"the data set {name!r}, prepared by TFDS",
        found=", ".join(names) or "none",
        remedy=f"{remedy}{prepare_command(name, data_dir)}",
    )


def open_builder(folder: Path) -> tfds.core.DatasetBuilder:
    """Opens the metadata of a prepared data set. Raises UserError if they are damaged or the format is another one.

    TFDS imports every module named in features.json. Data must not choose code, so only TFDS's own modules are allowed.
    """
    find = tfds.features.FeatureConnector.cls_from_name

    def find_in_tfds(name: str) -> type:
        if not name.startswith("tensorflow_datasets."):
            raise UserError(
                str(folder / "features.json"),
                expected="feature types of TFDS only",
                found=f"{name!r}, which is not imported",
                remedy="prepare the data set with a builder without this type",
            )
        return find(name)

    with naming_damage(f"metadata of {folder}"):
        with mock.patch.object(tfds.features.FeatureConnector, "cls_from_name", find_in_tfds):
            builder = tfds.builder_from_directory(folder)
        formats = [file_format.value for file_format in builder.info.available_file_formats()]
    if "array_record" not in formats:
        raise UserError(
            str(folder),
            expected="the file format array_record, which allows random access",
            found=", ".join(formats),
            remedy="move it away and prepare it again",
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
    """Turns every exception from reading a part of a data set into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # JSON, protobuf, TFDS and array_record raise many types
        raise UserError(
            part,
            expected="intact files of TFDS",
            found=f"damaged ones ({one_line(error)})",
            remedy="restore them, or remove them and prepare the data set again",
        ) from error


def one_line(error: Exception) -> str:
    """The message of an exception as one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


def _versions(folders: Iterable[Path]) -> list[Path]:
    version = re.compile(r"\d+\.\d+\.\d+")
    return [folder for folder in folders if version.fullmatch(folder.name) and (folder / "dataset_info.json").is_file()]
