"""The annotations of all images of a split, cached in a file, because reading them means reading all images."""

import logging
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from tqdm import tqdm

from lga_jax.data.source import UnreadableImageError
from lga_jax.data.tfds.split import Row, TfdsSplit
from lga_jax.errors import printable

_LOG = logging.getLogger(__name__)
_VERSION = 1  # version of the index file: raise it when its content changes, and every index is built again
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
        if (index := _load(path)) is not None:
            return index
    index = _read_all(split)
    if not any(_save(path, index) for path in paths):
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


def _load(path: Path) -> Index | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return Index(**file)
    except FileNotFoundError:
        return None
    except Exception as error:  # damaged files raise many types
        _LOG.warning("%s: damaged, built again (%s)", printable(str(path)), printable(str(error)))
        return None


def _save(path: Path, index: Index) -> bool:
    """Writes the file atomically. Returns False if that is impossible."""
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            np.savez(file, **index._asdict())
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        return False
    return True
