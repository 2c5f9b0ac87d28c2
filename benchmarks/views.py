"""AP and time of test-time augmentation and of tiles, on photographs and on objects that are small in large images.

    python -m benchmarks.views --workdir runs/bccd --data data/bccd

The detector of a run of configs/bccd.py is scored on BCCD's test images, and on mosaics of 4 x 4 of them: 2560 x 1920
pixels, which evaluation reduces to the size of one image. Times are without compilation.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

import lga_jax
from benchmarks import timing
from lga_jax.recipe import load

SIDE = 4  # images along each side of a mosaic
HW = (480, 640)  # of every image of BCCD
BATCH = 4
_TILES = dict(tile=640, overlap=0.25)
VIEWS = {
    "BCCD, test images": [{}, dict(flip=True), dict(flip=True, merge="wbf"), dict(flip=True, scales=(1.0, 1.25))],
    "Mosaics of 4 x 4 images": [{}, _TILES],
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workdir", default="runs/bccd")
    parser.add_argument("--data", default="data/bccd")
    parser.add_argument("--images", type=int, default=64, help="Test images, a multiple of 16.")


def rows(args: argparse.Namespace) -> Iterator[dict]:
    with tempfile.TemporaryDirectory() as folder:
        names = write_sets(Path(args.data), Path(folder), SIDE**2 if args.quick else args.images)
        for (table, views), name in zip(VIEWS.items(), names, strict=True):
            data = load("bccd").data.eval.to_dict() | dict(root=folder, annotations=f"{name}.json", images=name)
            for one in views:
                yield {"table": f"Views: {table}"} | measure(args.workdir, one, data)


def measure(workdir: str, views: dict, data: dict) -> dict:
    """AP and time of the detector with these views."""
    model = lga_jax.load(workdir, views=lga_jax.Views(**views))
    listed = json.loads(Path(data["root"], data["annotations"]).read_text())["images"]
    some = [str(Path(data["root"], data["images"], image["file_name"])) for image in listed[:BATCH]]
    model.predict(some, batch_size=BATCH)  # compiles
    start, used = time.perf_counter(), time.process_time()
    model.predict(some, batch_size=BATCH)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    result = lga_jax.evaluate(model, data).summary
    return {
        "what": ", ".join(f"{name} {value}" for name, value in views.items()) or "the image alone",
        "AP": result["AP"],
        "AP50": result["AP50"],
        "AP75": result["AP75"],
        "an image, s": seconds / len(some),
        "an image, CPU-s": used / len(some),
        "images": len(listed),
    }


def write_sets(data: Path, folder: Path, count: int) -> tuple[str, str]:
    """Writes `count` test images and their mosaics as COCO JSON. Returns the names of the sets."""
    whole = json.loads((data / "annotations" / "test.json").read_text())
    images = [image for image in whole["images"] if (image["height"], image["width"]) == HW][:count]
    pixels = [cv2.imread(str(data / "images" / image["file_name"])) for image in images]
    of_image = {image["id"]: [a for a in whole["annotations"] if a["image_id"] == image["id"]] for image in images}
    _write(folder, "single", whole["categories"], pixels, [of_image[image["id"]] for image in images])
    mosaics, boxes = [], []
    for first in range(0, count, SIDE**2):
        rows_of = range(first, first + SIDE**2, SIDE)
        mosaics.append(np.vstack([np.hstack(pixels[row : row + SIDE]) for row in rows_of]))
        boxes.append(
            [
                annotation | {"bbox": [x + column * HW[1], y + row * HW[0], width, height]}
                for number, image in enumerate(images[first : first + SIDE**2])
                for row, column in [divmod(number, SIDE)]
                for annotation in of_image[image["id"]]
                for x, y, width, height in [annotation["bbox"]]
            ]
        )
    _write(folder, "mosaics", whole["categories"], mosaics, boxes)
    return "single", "mosaics"


def _write(folder: Path, name: str, categories: list, pixels: list[np.ndarray], annotations: list[list[dict]]) -> None:
    (folder / name).mkdir()
    images, written = [], []
    for number, (image, own) in enumerate(zip(pixels, annotations, strict=True), start=1):
        cv2.imwrite(str(folder / name / f"{number}.png"), image)
        images.append(dict(id=number, file_name=f"{number}.png", height=image.shape[0], width=image.shape[1]))
        written += [one | {"id": len(written) + place, "image_id": number} for place, one in enumerate(own, start=1)]
    content = dict(images=images, annotations=written, categories=categories)
    (folder / f"{name}.json").write_text(json.dumps(content))


if __name__ == "__main__":
    timing.main(rows, __doc__, add_arguments)
