"""Masks in the image. torchvision first rounds the box to whole pixels; we paste into the box itself, as Detectron2."""

import cv2
import numpy as np

from lga_jax.data.object_masks import Bitmap
from lga_jax.inference.pasting import paste
from tests.parity.reference import torch, torchvision

HW, CELLS = (300, 320), 28
SIZES = ((16, 32), (32, 96), (96, 250))  # shortest and longest side of a box, pixels


def _blob(rng: np.random.Generator) -> np.ndarray:
    """Probabilities with one smooth object."""
    noise = cv2.GaussianBlur(rng.normal(size=(CELLS, CELLS)).astype(np.float32), (0, 0), 4)
    distance = np.hypot(*(np.mgrid[:CELLS, :CELLS] - (CELLS - 1) / 2))
    return (1 / (1 + np.exp(-40 * noise - 8 * (1 - distance / 12)))).astype(np.float32)


def _theirs(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    arguments = torch.tensor(mask)[None, None], torch.tensor(box, dtype=torch.float32)[None]
    return torchvision.models.detection.roi_heads.paste_masks_in_image(*arguments, HW)[0, 0].numpy() >= 0.5


def _ours(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    bitmap: Bitmap = paste(mask, box.astype(np.float64), HW)
    pixels, (x, y) = np.zeros(HW, bool), bitmap.origin
    pixels[y : y + bitmap.pixels.shape[0], x : x + bitmap.pixels.shape[1]] = bitmap.pixels
    return pixels


def whole_pixels(box: np.ndarray) -> np.ndarray:
    """The box that torchvision pastes into: with a cell around it, rounded down, one pixel longer."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * (CELLS + 2) / CELLS
    low, high = np.trunc(centre - half), np.trunc(centre + half) + 1
    cell = (high - low) / (CELLS + 2)
    return np.concatenate([low + cell, high - cell])


def _boxes(rng: np.random.Generator, sizes: tuple[int, int]) -> np.ndarray:
    corners = rng.uniform(-5, 40, (30, 2))
    return np.concatenate([corners, corners + rng.uniform(*sizes, (30, 2))], axis=1).astype(np.float32)


def test_masks_in_boxes_of_whole_pixels(record, rng):
    for sizes in SIZES:
        for box in _boxes(rng, sizes):
            mask = _blob(rng)
            ours, theirs = _ours(mask, whole_pixels(box.astype(np.float64))), _theirs(mask, box)
            differing = np.count_nonzero(ours != theirs) / np.count_nonzero(theirs)
            record("pasted masks", "pixels, in torchvision's boxes", 100 * differing, 0.5, theirs.size, "%")


def test_the_box_itself_against_whole_pixels(record, rng):
    for sizes, allowed in zip(SIZES, (0.25, 0.12, 0.05), strict=True):
        for box in _boxes(rng, sizes):
            mask = _blob(rng)
            ours, theirs = _ours(mask, box), _theirs(mask, box)
            iou = np.count_nonzero(ours & theirs) / np.count_nonzero(ours | theirs)
            what = f"1 - IoU, boxes of {sizes[0]} to {sizes[1]} pixels: another rule"
            record("pasted masks", what, 1 - iou, allowed, 1, "of 1")
