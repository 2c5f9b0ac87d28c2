"""Measures data loading: speed from files to batches, memory and padding.

    python -m benchmarks.data [--annotations data/coco/annotations/instances_train2017.json] [--only loader,plan]

Prints a row per measurement with its goal. On a machine with other work, use the processor time: a free core gives
1000 / (ms per image) images/s. Without --annotations, image sizes approximate COCO's. The annotation file is generated
in a temporary folder: 118,000 images, 860,000 boxes with outlines, 0.5 GB.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import jax
import numpy as np
from ml_collections import ConfigDict

from configs.coco import get_config
from lga_jax.data.augment.view import training_hw
from lga_jax.data.batches.loader import TrainLoader
from lga_jax.data.batches.plan import BatchPlan, assign_buckets, padded_share
from lga_jax.data.coco.source import CocoJson
from lga_jax.data.decode import decode_image
from lga_jax.data.source import Record

NUM_IMAGES, NUM_BOXES = 118_000, 860_000  # approximately COCO's training set
# (height, width) and approximate percentage of images: the most frequent sizes of COCO's training set.
STAND_IN = {(480, 640): 35, (427, 640): 21, (640, 480): 14, (426, 640): 11, (640, 427): 7, (375, 500): 6, (612, 612): 6}


class Jpegs:
    """A source that repeats a few JPEGs from memory."""

    class_names, report, fingerprint = ("thing",), [], ""

    def __init__(self, hw: tuple[int, int], num_images: int) -> None:
        rng = np.random.default_rng(0)
        self._files = [_jpeg(rng, hw) for _ in range(16)]
        boxes = np.array([[1, 1, 9, 9], [4, 4, 20, 20]], np.float32)
        self.records = [
            Record(number, *hw, boxes, np.zeros(2, np.int32), np.zeros(2, bool)) for number in range(num_images)
        ]

    @property
    def kibibytes(self) -> float:
        return sum(map(len, self._files)) / len(self._files) / 1024

    def image(self, index: int) -> np.ndarray:
        record = self.records[index]
        return decode_image(self._files[index % len(self._files)], "a JPEG", (record.height, record.width))[0]

    def truth(self) -> dict:
        raise NotImplementedError


def loader() -> Iterator[tuple[str, str, str]]:
    """640 x 480 JPEGs, decoded, half of them flipped, resized to 800 x 1066, in batches of 16 of 800 x 1344."""
    config = get_config().data
    config.update(short_edges=(800,), buckets=((800, 1344),), size_rounding="floor")
    source = Jpegs((480, 640), 4000)
    for changes, wanted in (({}, 200), ({"photometric": 0.5}, 0), ({"copy_paste": 0.5}, 0), ({"num_workers": 2}, 380)):
        config.update({"num_workers": 1, "photometric": 0.0, "copy_paste": 0.0} | changes)
        rate, milliseconds = _images_per_second(source, config, batch_size=16, num_batches=30)
        what = ", ".join(f"{key} {value}" for key, value in ({"num_workers": 1} | changes).items())
        yield (
            f"loader, JPEGs of {source.kibibytes:.0f} KiB, {what}",
            f"{rate:.0f} images/s, {milliseconds:.2f} ms of processor time an image",
            f"{wanted} images/s" if wanted else "",
        )


def overhead() -> Iterator[tuple[str, str, str]]:
    """Time per image without pixels, mostly with Python's lock: a lower bound for any number of workers."""
    config = get_config().data
    config.update(short_edges=(64,), buckets=((64, 64),), num_workers=8)
    rate, milliseconds = _images_per_second(Jpegs((64, 64), 4000), config, batch_size=16, num_batches=300)
    yield "the same with images of 64 x 64, num_workers 8", f"{rate:.0f} images/s, {milliseconds:.2f} ms an image", ""


def plan() -> Iterator[tuple[str, str, str]]:
    """The order of an epoch with COCO's size, without and with repeated images."""
    bucket_of = (np.random.default_rng(0).random(NUM_IMAGES) < 0.25).astype(np.int64)
    for name, weights in (("weight 1", np.ones(NUM_IMAGES)), ("weights 1 to 2", 1 + np.arange(NUM_IMAGES) % 7 / 6)):
        batches, taken = BatchPlan(bucket_of, weights, 16, 0), []
        for epoch in range(9):
            start = time.process_time()
            batches.batch(epoch * batches.steps_per_epoch)
            taken.append(time.process_time() - start)
        milliseconds = 1000 * np.median(taken)
        yield f"plan of an epoch of {NUM_IMAGES:,} images of {name}", f"{milliseconds:.1f} ms of processor", "10 ms"


def start_up() -> Iterator[tuple[str, str, str]]:
    """Opens an annotation file of COCO's size in a separate process."""
    with tempfile.TemporaryDirectory() as folder:
        mebibytes = _write_annotations(Path(folder)) / 2**20
        command = [sys.executable, "-m", "benchmarks.data", "--open", folder]
        figures = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    opened, planned, processor, peak = json.loads(figures)
    yield (
        f"opening {mebibytes:.0f} MiB of annotations of {NUM_IMAGES:,} images, and the loader on them",
        f"{opened:.1f} s + {planned:.1f} s ({processor:.1f} s of processor with imports), peak {peak:.0f} MiB",
        "15 s, 2048 MiB",
    )


def padding(annotations: str | None) -> Iterator[tuple[str, str, str]]:
    """Share of padding with the reference recipe on images of COCO's sizes."""
    sizes, whose = [hw for hw, count in STAND_IN.items() for _ in range(count)], "approximate COCO sizes"
    if annotations:
        images = json.loads(Path(annotations).read_text())["images"]
        sizes, whose = [(image["height"], image["width"]) for image in images], f"sizes of {annotations}"
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool)
    records = [Record(0, *hw, *nothing) for hw in sizes]
    data = get_config().data
    for buckets in (data.buckets, ((1344, 1344),)):
        largest = lambda hw: training_hw(hw, data)  # noqa: E731
        bucket_of = assign_buckets(records, buckets, largest)
        share = padded_share(records, buckets, largest, bucket_of, np.ones(len(records)))
        yield f"padding, buckets {buckets}, {whose}", f"{share:.1%} of all pixels", "25%" if len(buckets) > 1 else ""


def memory() -> Iterator[tuple[str, str, str]]:
    """Growth of the process's memory from batch 2,000 to batch 22,000."""
    config = get_config().data
    config.update(short_edges=(64,), buckets=((64, 64),), num_workers=2)
    with closing(TrainLoader(Jpegs((64, 64), 500), config, 0, 4, 0, jax.local_devices()[:1])) as batches:
        _take(batches, 2_000)
        before = _resident()
        _take(batches, 20_000)
        yield "growth over 20,000 batches", f"{_resident() - before:.1f} MiB of {before:.0f} MiB", "0"


def _jpeg(rng: np.random.Generator, hw: tuple[int, int]) -> bytes:
    """Clouds with grain: about as many bytes per pixel as photographs."""
    coarse = [rng.normal(0, 12 * cell**0.5, (hw[0] // cell, hw[1] // cell, 3)) for cell in (4, 16, 64)]
    clouds = sum(cv2.resize(noise, hw[::-1]) for noise in coarse)
    pixels = np.clip(128 + clouds + rng.normal(0, 4, (*hw, 1)), 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def _images_per_second(source: Jpegs, config: ConfigDict, batch_size: int, num_batches: int) -> tuple[float, float]:
    """Wall-clock images/s, and milliseconds of processor time per image over all threads."""
    with closing(TrainLoader(source, config, 0, batch_size, 0, jax.local_devices()[:1])) as batches:
        _take(batches, 4)
        start, processor = time.perf_counter(), time.process_time()
        _take(batches, num_batches)
        num_images = batch_size * num_batches
        seconds = time.perf_counter() - start
        return num_images / seconds, 1000 * (time.process_time() - processor) / num_images


def _take(batches: TrainLoader, count: int) -> None:
    for _ in range(count):
        jax.block_until_ready(next(batches))


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _write_annotations(folder: Path) -> int:
    """Writes a COCO file and its empty image files; returns the bytes of the file."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    names = [f"{number:012d}.jpg" for number in range(NUM_IMAGES)]
    for name in names:
        (folder / "images" / name).touch()
    outlines = [json.dumps([rng.uniform(0, 480, 60).round(2).tolist()]) for _ in range(500)]
    owners, labels = rng.integers(0, NUM_IMAGES, NUM_BOXES).tolist(), rng.integers(1, 81, NUM_BOXES).tolist()
    boxes = (rng.uniform(0, 300, (NUM_BOXES, 4)) + 1).round(2).tolist()
    path = folder / "annotations.json"
    with path.open("w") as file:
        images = [{"id": i, "file_name": name, "height": 480, "width": 640} for i, name in enumerate(names)]
        file.write(f'{{"images": {json.dumps(images)}, "annotations": [')
        for number in range(NUM_BOXES):
            file.write(
                f'{"," if number else ""}{{"id": {number}, "image_id": {owners[number]}, "area": 123.4, "iscrowd": 0, '
                f'"category_id": {labels[number]}, "bbox": {boxes[number]}, "segmentation": {outlines[number % 500]}}}'
            )
        categories = [{"id": number, "name": f"class {number}"} for number in range(1, 81)]
        file.write(f'], "categories": {json.dumps(categories)}}}')
    return path.stat().st_size


def _open(folder: str) -> None:
    """Prints seconds to open the source, seconds to create the loader, processor seconds and peak MiB."""
    start = time.perf_counter()
    source = CocoJson(folder, "annotations.json", "images", skip_empty=True)
    opened = time.perf_counter()
    assert len(source.records) > 0.99 * NUM_IMAGES
    config = get_config().data
    config.repeat_threshold = 0.02
    TrainLoader(source, config, 0, 16, 0, jax.local_devices()).close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([opened - start, time.perf_counter() - opened, time.process_time(), peak]))


def main() -> None:
    questions = {
        "loader": loader,
        "overhead": overhead,
        "plan": plan,
        "start_up": start_up,
        "memory": memory,
        "padding": lambda: padding(args.annotations),
    }
    parser = argparse.ArgumentParser()
    parser.add_argument("--annotations", help="a COCO file with the sizes of images")
    parser.add_argument("--only", help=f"some of {','.join(questions)}", default=",".join(questions))
    parser.add_argument("--open", help=argparse.SUPPRESS)
    args = parser.parse_args()
    names = args.only.split(",")
    if unknown := [name for name in names if name not in questions]:
        parser.error(f"--only: expected some of {','.join(questions)}, found {','.join(unknown)}")
    jax.config.update("jax_platforms", "cpu")
    if args.open:
        return _open(args.open)
    print("| what | measured | wanted |\n|---|---|---|")
    for name in names:
        for row in questions[name]():
            print(f"| {' | '.join(row)} |", flush=True)
    return None


if __name__ == "__main__":
    main()
