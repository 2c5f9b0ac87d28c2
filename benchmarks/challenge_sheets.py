"""Draws the sample sheets of docs/challenge.md: the eight classes, and each challenge at its three severities.

    python benchmarks/challenge_sheets.py docs/images

The only captions are class names; rows are severity 1, 2 and 3.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lga_jax.data.challenge.scene import CHALLENGES
from lga_jax.data.challenge.source import Challenge

SEED, COLUMNS = 1, 4


def main() -> None:
    folder = Path(sys.argv[1])
    save(classes_sheet(), folder / "challenge_plain.png")
    for name in CHALLENGES[1:]:
        save(severity_sheet(name), folder / f"challenge_{name}.png")


def classes_sheet() -> np.ndarray:
    """Two vehicles per class, one class per column, enlarged by 2; the part's box in white."""
    source = Challenge(400, SEED, (96, 96), ("plain",), max_objects=1)
    columns = []
    for label, name in enumerate(source.class_names):
        having = [i for i, record in enumerate(source.records) if record.labels[0] == label and width(record) > 36][:2]
        tiles = [framed(source, index) for index in having]
        cv2.putText(tiles[0], name, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
        columns.append(np.vstack(tiles))
    return np.vstack([np.hstack(columns[:4]), np.hstack(columns[4:])])


def width(record) -> float:
    return record.boxes_original[0, 2] - record.boxes_original[0, 0]


def framed(source: Challenge, index: int) -> np.ndarray:
    tile = cv2.resize(source.image(index), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    left, top, right, bottom = (2 * source.parts[index][0]).astype(int).tolist()
    return cv2.rectangle(tile, (left - 2, top - 2), (right + 1, bottom + 1), (255, 255, 255), 1)


def severity_sheet(name: str) -> np.ndarray:
    """The same scenes at severity 1, 2 and 3, one severity per row."""
    sources = [Challenge(COLUMNS, SEED, challenges=(name,), severities=(severity,)) for severity in (1, 2, 3)]
    return np.vstack([np.hstack([source.image(i) for i in range(COLUMNS)]) for source in sources])


def save(sheet: np.ndarray, path: Path) -> None:
    # A palette reduces the size of noisy pictures; the octree method keeps the few vivid pixels of the parts.
    palette = Image.fromarray(sheet).quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
