"""The annotations of all images of a split, cached in a file, because reading them means reading all images."""

import hashlib
import io
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from tqdm import tqdm

from lga_jax.archives import open_archive, read_arrays
from lga_jax.data.decode import MAX_PIXELS
from lga_jax.data.source import UnreadableImageError
from lga_jax.data.tfds.split import Row, TfdsSplit
from lga_jax.errors import printable
from lga_jax.files import WriteError, write_atomically

_LOG = logging.getLogger(__name__)
_VERSION = 2  # version of the index file: raise it when its content changes, and every index is built again
_NUM_THREADS = 8  # more than cores: they mostly wait for the disk


class Index(NamedTuple):
    """One row for each image of known size, and one for each object, in the order of the images."""

    number: Int[np.ndarray, "m"]  # position of the image in its split
    image_id: np.ndarray  # [m], integers or strings
    file_name: np.ndarray  # [m], strings
    hw: Int[np.ndarray, "m 2"]  # pixels
    num_objects: Int[np.ndarray, "m"]
    boxes_original: Float[np.ndarray, "n 4"]  # xyxy in pixels, neither clipped nor checked
    labels: Int[np.ndarray, "n"]
    crowd: Bool[np.ndarray, "n"]
    areas: Float[np.ndarray, "n"]  # pixels


def read_index(split: TfdsSplit) -> Index:
    """Reads the index of a split from its cache file, beside the data or in the user's cache folder.

    Without a cache file, or after a change of the data, reads all images and writes the cache.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lga_jax"
    paths = [folder / f"index_v{_VERSION}_{split.digest[:32]}.npz" for folder in (split.folder, cache)]
    for path in paths:
        if (index := _load(path, split)) is not None:
            return index
    index = _read_all(split)
    if not any(_save(path, index, split) for path in paths):
        _LOG.warning(
            "%s: its index cannot be written, so every start reads all images (%s)",
            printable(split.where),
            printable(str(paths[1])),
        )
    return index


def _read_all(split: TfdsSplit) -> Index:
    with ThreadPoolExecutor(_NUM_THREADS) as workers:
        numbers = range(len(split))
        bar = tqdm(numbers, desc=f"indexing {printable(split.where)}, once", unit="image", leave=False, disable=None)
        rows = zip(bar, workers.map(lambda number: _row(split, number), numbers), strict=True)
        known = {number: row for number, row in rows if row is not None}
    columns = Row(*zip(*known.values(), strict=True)) if known else Row(*[()] * len(Row._fields))
    return Index(
        number=np.array(list(known), np.int64),
        image_id=np.array(columns.image_id),
        file_name=np.array(columns.file_name, str),
        hw=np.array(columns.hw, np.int64).reshape(-1, 2),
        num_objects=np.array([len(labels) for labels in columns.labels], np.int64),
        boxes_original=np.concatenate([np.zeros((0, 4)), *columns.boxes_original]),
        labels=np.concatenate([np.zeros(0, np.int32), *columns.labels]),
        crowd=np.concatenate([np.zeros(0, bool), *columns.crowd]),
        areas=np.concatenate([np.zeros(0), *columns.areas]),
    )


def _row(split: TfdsSplit, number: int) -> Row | None:
    try:
        return split.row(number)
    except UnreadableImageError:
        return None  # without the size of the image, its boxes have no pixels


def _load(path: Path, split: TfdsSplit) -> Index | None:
    try:
        with open_archive(path) as archive:
            columns = read_arrays(archive)
        digest = str(columns.pop("digest"))
        index = Index(**columns)
        if digest != _digest(index, split):
            raise ValueError("its digest belongs to other content")
        _check(index, len(split))
    except FileNotFoundError:
        return None
    except Exception as error:  # damaged files raise many types
        _LOG.warning("%s: damaged, built again (%s)", printable(str(path)), printable(str(error)))
        return None
    return index


def _digest(index: Index, split: TfdsSplit) -> str:
    """SHA-256 of the split and of all columns with their names, types and shapes."""
    sha = hashlib.sha256(split.digest.encode())
    for name, column in index._asdict().items():
        sha.update(f"{name} {column.dtype.str} {column.shape} ".encode())
        sha.update(np.ascontiguousarray(column).tobytes())
    return sha.hexdigest()


def _check(index: Index, num_examples: int) -> None:
    """Raises ValueError if the columns do not fit each other and the split: a file can have any content."""
    num_images, num_objects = len(index.number), len(index.labels)
    expected = {
        "number": ("i", (num_images,)),
        "image_id": ("iU", (num_images,)),
        "file_name": ("U", (num_images,)),
        "hw": ("i", (num_images, 2)),
        "num_objects": ("i", (num_images,)),
        "boxes_original": ("f", (num_objects, 4)),
        "labels": ("i", (num_objects,)),
        "crowd": ("b", (num_objects,)),
        "areas": ("f", (num_objects,)),
    }
    for name, (kinds, shape) in expected.items():
        column = getattr(index, name)
        # An empty column has the type that numpy gives to no values.
        if column.shape != shape or (column.size and column.dtype.kind not in kinds):
            raise ValueError(f"{name} has the type {column.dtype} and the shape {column.shape}")
    if num_images and not (
        index.number[0] >= 0 and index.number[-1] < num_examples and (np.diff(index.number) > 0).all()
    ):
        raise ValueError("number has other images than the split")
    if (index.hw < 1).any() or (index.hw.astype(float).prod(1) > MAX_PIXELS).any():
        raise ValueError("hw has an impossible size")
    if (index.num_objects < 0).any() or index.num_objects.sum() != num_objects:
        raise ValueError(f"num_objects does not count the {num_objects} objects")


def _save(path: Path, index: Index, split: TfdsSplit) -> bool:
    """Writes the file atomically. Returns False if that is impossible."""
    content = io.BytesIO()
    np.savez(content, **index._asdict(), digest=np.array(_digest(index, split)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
    except (OSError, WriteError):
        return False
    return True
