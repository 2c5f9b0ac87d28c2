"""The workdir of a study: finished runs, and images decoded or drawn once for all runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from lga_jax.data.source import Source


def read_runs(workdir: Path) -> list[dict[str, Any]]:
    """The finished runs; only the latest of repeated runs. Incomplete lines are ignored."""
    path, runs = workdir / "runs.jsonl", {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            run = json.loads(line)
        except json.JSONDecodeError:
            continue
        key = run["data"], run["row"], run["seed"], run["digest"]
        runs.pop(key, None)  # keeps the latest run last, also among digests
        runs[key] = run
    return list(runs.values())


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
