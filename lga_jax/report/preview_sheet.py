"""Sheets of training samples: each image of the first steps beside its original."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from ml_collections import ConfigDict
from PIL import Image, ImageDraw

from lga_jax.data.batches.loader import TrainLoader
from lga_jax.data.doctor.open_faulty import from_source
from lga_jax.data.object_masks import FULL, pixels_of
from lga_jax.data.source import Source, UnreadableImageError, object_masks_of, open_source
from lga_jax.drawing.canvas import Colour, font
from lga_jax.drawing.labels import Label, draw_tile, draw_unreadable
from lga_jax.drawing.pictures import class_colours
from lga_jax.drawing.text import drawable, drawable_names
from lga_jax.files import make_folder, write_atomically
from lga_jax.inference.pasting import paste
from lga_jax.structs import Batch

_TILE = 384  # pixels
_CAPTION = 22  # pixels, height
_COLUMNS, _PER_SHEET = 4, 16  # samples
_GAP, _GROUND = 6, (40, 40, 40)


class Sample(NamedTuple):
    """An original image and its augmented version; both have a long edge of _TILE pixels."""

    caption: str
    original: UInt8[np.ndarray, "h w 3"]
    seen: UInt8[np.ndarray, "h2 w2 3"]


def preview(config: ConfigDict, output: str, num_images: int) -> list[Path]:
    """Writes sheets of the first `num_images` training samples of a new run; returns their paths."""
    make_folder(output)
    samples, paths = draw_samples(config, num_images), []
    while some := list(islice(samples, _PER_SHEET)):
        paths.append(Path(output, f"preview_{len(paths):03d}.jpg"))
        encoded = cv2.imencode(".jpg", sheet(some)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        write_atomically(paths[-1], encoded.tobytes())
    return paths


def draw_samples(config: ConfigDict, num_images: int) -> Iterator[Sample]:
    """The samples of steps 0, 1, ... in order."""
    source = open_source(**config.data.train)
    file_names = from_source(source).file_names
    data_config = config.data.copy_and_resolve_references()
    data_config.prefetch = 0  # the same batches with less memory
    data_config.max_faulty = 1.0  # unreadable images are shown as such
    colours = list(class_colours(dict(enumerate(source.class_names))).values())
    devices = jax.local_devices()[:1]
    masks = config.model.mask_head.enabled
    with closing(
        TrainLoader(source, data_config, config.seed, config.batch_size, 0, devices, 0, 1, object_masks=masks)
    ) as loader:
        rows = (
            jax.tree.map(lambda leaf, n=n: leaf[0, n], batch)
            for batch in map(jax.device_get, loader)
            for n in range(config.batch_size)
        )
        for row in islice(rows, num_images):
            yield _draw(source, file_names[int(row.index)], row, colours)


def sheet(samples: Sequence[Sample]) -> UInt8[np.ndarray, "h w 3"]:
    """Arranges samples in rows of four pairs."""
    rows = [samples[start : start + _COLUMNS] for start in range(0, len(samples), _COLUMNS)]
    tops = np.cumsum(
        [0, *(_CAPTION + _GAP + max(len(tile) for s in row for tile in (s.original, s.seen)) for row in rows)]
    )
    picture = Image.new("RGB", (len(rows[0]) * (2 * _TILE + 3 * _GAP), int(tops[-1])), _GROUND)
    pen = ImageDraw.Draw(picture)
    for row, top in zip(rows, tops.tolist(), strict=False):
        for column, sample in enumerate(row):
            left = column * (2 * _TILE + 3 * _GAP) + _GAP
            pen.text((left, top + _CAPTION / 2), sample.caption, fill="white", font=font(12), anchor="lm")
            picture.paste(Image.fromarray(sample.original), (left, top + _CAPTION))
            picture.paste(Image.fromarray(sample.seen), (left + _TILE + _GAP, top + _CAPTION))
    return np.asarray(picture)


def _draw(source: Source, file_name: str | None, row: Batch, colours: Sequence[Colour]) -> Sample:
    record, targets = source.records[int(row.index)], row.targets
    name = str(record.image_id) if file_name is None else file_name
    masked, valid = targets.masks is not None, targets.valid
    try:
        masks = object_masks_of(source, int(row.index)) if masked else [None] * len(record.labels)
        stored_masks = [None if mask is None else pixels_of(mask, (record.height, record.width)) for mask in masks]
        labels = _labels(source, colours, record.boxes_original, record.labels, record.crowd, stored_masks)
        original = draw_tile(source.image(int(row.index)), labels, _TILE)
    except UnreadableImageError:  # loaders continue too
        original = draw_unreadable((record.height, record.width), _TILE)
    no_crowds = np.zeros(valid.sum(), bool)
    seen_masks = _pasted(row) if masked else [None] * len(no_crowds)
    seen = _labels(source, colours, targets.boxes[valid], targets.labels[valid], no_crowds, seen_masks)
    height, width = row.images.shape[:2]
    stored, scale = f"{record.width} x {record.height}", row.scale_hw.mean()
    caption = f"{drawable(name)}: {stored}, scaled by {scale:.2f} into {width} x {height}"
    return Sample(caption, original, draw_tile(row.images, seen, _TILE))


def _pasted(row: Batch) -> list[Bool[np.ndarray, "h w"] | None]:
    """The masks of the valid targets in the image of the network."""
    targets, hw = row.targets, row.images.shape[:2]
    places = zip(*(leaf[targets.valid] for leaf in (targets.masks, targets.boxes, targets.has_mask)), strict=True)
    return [pixels_of(paste(mask / FULL, box, hw), hw) if has else None for mask, box, has in places]


def _labels(
    source: Source,
    colours: Sequence[Colour],
    boxes: Float[np.ndarray, "n 4"],
    labels: Int[np.ndarray, "n"],
    crowds: Bool[np.ndarray, "n"],
    masks: Sequence[Bool[np.ndarray, "h w"] | None],
) -> list[Label]:
    names = drawable_names(dict(enumerate(source.class_names)))
    rows = zip(boxes.tolist(), labels.tolist(), crowds.tolist(), masks, strict=True)
    return [
        Label((x1, y1, x2 - x1, y2 - y1), names[label], colours[label], crowd, mask)
        for (x1, y1, x2, y2), label, crowd, mask in rows
    ]
