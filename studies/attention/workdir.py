"""The workdir of a study: finished runs, and images decoded or drawn once for all runs."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from lga_jax.data.source import Source, open_source
from studies.attention.rows import SPLITS


def read_runs(workdir: Path) -> list[dict[str, Any]]:
    """The finished runs; only the latest of repeated runs. Incomplete lines are ignored."""
    path, runs = workdir / "runs.jsonl", {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            run = json.loads(line)
        except json.JSONDecodeError:
            continue
        key = key_of(run)
        runs.pop(key, None)  # keeps the latest run last, also among digests
        runs[key] = run
    return list(runs.values())


def read_measures(workdir: Path) -> list[dict[str, Any]]:
    """The lines that studies.attention.measure wrote."""
    path = workdir / "measures.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def key_of(line: dict[str, Any]) -> tuple[str, str, int, str]:
    """Names a run in runs.jsonl and measures.jsonl."""
    return line["data"], line["row"], line["seed"], line["digest"]


def open_sources(data: str, config: ConfigDict, images: Path) -> tuple[Source, Source]:
    """The training and the evaluation images of a data set; `images` is the folder of the caches."""
    train, evaluation = (open_source(**config.data[part]) for part in ("train", "eval"))
    if step := SPLITS.get(data):
        train = Subset(train, [index for index in range(len(train.records)) if index % step])
        evaluation = Subset(evaluation, range(0, len(evaluation.records), step))
    return CachedSource(train, images), CachedSource(evaluation, images)


class Subset:
    """Some images of a Source."""

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self._source, self._indices = source, list(indices)
        self.class_names, self.report = source.class_names, source.report
        self.records = [source.records[index] for index in self._indices]
        chosen = json.dumps([source.fingerprint, self._indices])
        self.fingerprint = hashlib.sha256(chosen.encode()).hexdigest()

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._source.image(self._indices[index])

    def truth(self) -> dict:
        truth = self._source.truth()
        ids = {record.image_id for record in self.records}
        return truth | {
            "images": [image for image in truth["images"] if image["id"] in ids],
            "annotations": [box for box in truth["annotations"] if box["image_id"] in ids],
        }


class CachedSource:
    """A Source with images in one memory-mapped file if all have the same size; otherwise it reads the source."""

    def __init__(self, source: Source, folder: Path) -> None:
        self._source = source
        self.class_names, self.records = source.class_names, source.records
        self.report, self.fingerprint = source.report, source.fingerprint
        self._pixels = None
        if len({(record.height, record.width) for record in source.records}) == 1:
            path = folder / f"{source.fingerprint[:16]}_{len(source.records)}.npy"
            if not path.exists():
                _write(source, path)
            self._pixels = np.load(path, mmap_mode="r")

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._source.image(index) if self._pixels is None else np.array(self._pixels[index])

    def truth(self) -> dict:
        return self._source.truth()


def _write(source: Source, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    shape = (len(source.records), source.records[0].height, source.records[0].width, 3)
    pixels = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
    for index in range(len(source.records)):
        pixels[index] = source.image(index)
    pixels.flush()
    part.replace(path)
