"""Measures what object masks cost on the host: reading, augmenting and pasting them.

    python -m benchmarks.object_masks --root data/coco_tiny80 \
        --annotations annotations/instances_train2017.json --images train2017

All times are processor times of one thread, without decoding. Images are augmented for a bucket of 800 x 1344.
"""

import argparse
import time
import tracemalloc
from collections.abc import Iterator

import numpy as np

from configs.coco import get_config
from lga_jax.data.augment.donor import draw_donor
from lga_jax.data.augment.view import draw_view
from lga_jax.data.batches.fill import MASK_SIDE, empty_batch, write_image
from lga_jax.data.batches.paste import paste as paste_boxes
from lga_jax.data.batches.paste_masks import Below, paste_masks
from lga_jax.data.coco.source import CocoJson
from lga_jax.data.object_masks import to_rle
from lga_jax.inference.pasting import paste

BUCKET, SLOTS = (800, 1344), 200


def reading(source: CocoJson) -> Iterator[tuple[str, str]]:
    start = time.process_time()
    (counts,) = source.mask_counts()
    seconds = time.process_time() - start
    yield f"reading {counts.total} masks", f"{1e6 * seconds / counts.total:.0f} us per mask"


def augmenting(source: CocoJson) -> Iterator[tuple[str, str]]:
    images = [source.image(index) for index in range(len(source.records))]
    for jitter in ((), (0.1, 2.0)):
        for pasting in (False, True):
            boxes, masks = (_milliseconds(source, images, jitter, pasting, masks) for masks in (False, True))
            what = f"scale_jitter {jitter}, copy_paste {float(pasting)}"
            yield what, f"{boxes:.2f} ms per image with boxes, {masks:.2f} ms with masks"


def _milliseconds(source: CocoJson, images: list, jitter: tuple, pasting: bool, masked: bool) -> float:
    data, rng, seconds = get_config().data, np.random.default_rng(0), 0.0
    data.update(scale_jitter=jitter, copy_paste=float(pasting))
    batch = empty_batch(1, BUCKET, SLOTS, MASK_SIDE if masked else 0)
    for index, record in enumerate(source.records):
        view, donor = draw_view(rng, record, BUCKET, data), draw_donor(rng, source.records, BUCKET, data)
        masks = source.object_masks(index) if masked else None
        start = time.process_time()
        write_image(batch, 0, index, record, images[index], view, data.resize, masks)
        if donor and donor.pasted.any():
            other, pixels = source.records[donor.index], images[donor.index]
            if masked:
                others = source.object_masks(donor.index)
                paste_masks(batch, 0, Below(record, view, masks), other, others, pixels, donor, data.resize)
            else:
                paste_boxes(batch, 0, other, pixels, donor, data.resize)
        seconds += time.process_time() - start
    return 1000 * seconds / len(images)


def pasting(source: CocoJson) -> Iterator[tuple[str, str]]:
    """A disc in each box of the set, as RLE."""
    disc = (np.hypot(*(np.mgrid[:28, :28] - 13.5)) < 12).astype(np.float32)
    places = [(box.astype(np.float64), (r.height, r.width)) for r in source.records for box in r.boxes_original]
    start = time.process_time()
    for box, hw in places:
        to_rle(paste(disc, box, hw), hw)
    yield "pasting a predicted mask, with RLE", f"{1e6 * (time.process_time() - start) / len(places):.0f} us"
    start, hw = time.process_time(), (10_000, 10_000)
    tracemalloc.start()
    to_rle(paste(disc, np.array([100.0, 100, 9900, 9900]), hw), hw)
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    yield "the same for a box of 96 megapixels", f"{seconds:.2f} s, peak {peak / 1e6:.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("root", "annotations", "images"):
        parser.add_argument(f"--{name}", required=True)
    source = CocoJson(**vars(parser.parse_args()), skip_empty=True)
    print("| what | measured |\n|---|---|")
    for measure in (reading, augmenting, pasting):
        for row in measure(source):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
