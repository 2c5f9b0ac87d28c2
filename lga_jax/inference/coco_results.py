"""Converts detections in pixels of the padded input to COCO results in pixels of the stored image."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Bool, Float, Int

from lga_jax.data.object_masks import HW, to_rle
from lga_jax.data.source import Record
from lga_jax.inference.locate import Located, without_filling
from lga_jax.inference.pasting import paste
from lga_jax.structs import Array, Detections


def to_coco(
    detections: Detections,
    scale_hw: Float[Array, "n 2"],
    original_hw: Int[Array, "n 2"],
    image_ids: Sequence[int | str],
    category_ids: Sequence[int],
) -> list[dict]:
    """COCO results of n images, image by image, highest score first.

    Args:
        detections: host arrays with one leading axis over the images.
        scale_hw: resized / original, per axis.
        original_hw: size of the stored images; boxes are clipped to it.
        image_ids: ids of the images in the ground truth.
        category_ids: category id of each label 0..k-1 in the ground truth.

    Returns:
        Dictionaries with 'image_id', 'category_id', 'bbox' (x, y, width, height) and 'score'; with Gaussian masks also
        'roi' (x, y, width, height), 'mask_centres' ((x, y) per mask) and 'mask_sigmas'; with a mask head also
        'segmentation', COCO's compressed RLE of the object mask in the stored image. Lengths are pixels of the stored
        image, rounded to 0.001. Detections that are not finite are omitted; `count_non_finite` counts them.
    """
    usable = np.asarray(detections.valid) & _finite(detections)
    results = []
    for i, image_id in enumerate(image_ids):
        one = Detections(*(np.asarray(leaf[i])[usable[i]] for leaf in detections))
        results += _image_results(one, np.asarray(scale_hw)[i], np.asarray(original_hw)[i], image_id, category_ids)
    return results


def per_image(
    located: Located, records: Sequence[Record], category_ids: Sequence[int]
) -> Iterator[tuple[int, list[dict]]]:
    """(index, COCO results) of each row; every row has an image. `records`: all records of the source."""
    for row, index in enumerate(located.index.tolist()):
        record = records[index]
        found = to_coco(
            Detections(*(leaf[row : row + 1] for leaf in located.detections)),
            located.scale_hw[row : row + 1],
            np.array([[record.height, record.width]]),
            [record.image_id],
            category_ids,
        )
        yield index, found


class CocoResults:
    """The COCO results of a source, collected batch by batch: so one batch of predicted masks is in memory."""

    def __init__(self, records: Sequence[Record], category_ids: Sequence[int]) -> None:
        """`category_ids`: of each label 0..k-1."""
        self._records, self._category_ids = records, category_ids
        self._found: list[tuple[int, list[dict]]] = []  # index of an image, its results
        self.num_non_finite = 0  # omitted detections
        self.have_masks = False  # the detector has a mask head

    def add(self, located: Located) -> None:
        """Adds the detections of a batch; rows with index -1 are left out."""
        located = without_filling(located)
        self.have_masks |= located.detections.masks.shape[-1] > 0
        self.num_non_finite += count_non_finite(located.detections)
        self._found += per_image(located, self._records, self._category_ids)

    def gather(self) -> None:
        """Adds what all other processes have; every process calls it."""
        if jax.process_count() == 1:
            return
        own = np.frombuffer(json.dumps([self._found, self.num_non_finite]).encode(), np.uint8)
        lengths = multihost_utils.process_allgather(np.array(len(own)))
        texts = multihost_utils.process_allgather(np.pad(own, (0, lengths.max() - len(own))))
        parts = [json.loads(text[:length].tobytes()) for text, length in zip(texts, lengths, strict=True)]
        self._found = [(index, results) for found, _ in parts for index, results in found]
        self.num_non_finite = sum(num_non_finite for _, num_non_finite in parts)

    def in_source_order(self) -> list[dict]:
        """The results of all images. Raises RuntimeError if an image is missing or repeated."""
        found = sorted(self._found, key=lambda entry: entry[0])
        if [index for index, _ in found] != list(range(len(self._records))):
            raise RuntimeError(
                f"evaluation: expected each of {len(self._records)} images once, found {len(found)} rows for "
                f"{len({index for index, _ in found})} images"
            )
        return [result for _, results in found for result in results]


def count_non_finite(detections: Detections) -> int:
    """The number of valid detections with nan or inf, a sign of a diverged model."""
    return int(np.sum(np.asarray(detections.valid) & ~_finite(detections)))


def _finite(detections: Detections) -> Bool[np.ndarray, "*n"]:
    axes = np.ndim(detections.valid)
    return np.all([np.isfinite(leaf).all(axis=tuple(range(axes, np.ndim(leaf)))) for leaf in detections], axis=0)


def _image_results(
    detections: Detections,
    scale_hw: Float[np.ndarray, "2"],
    original_hw: Int[np.ndarray, "2"],
    image_id: int | str,
    category_ids: Sequence[int],
) -> list[dict]:
    scale_xy = scale_hw[::-1].astype(np.float64)
    corners = detections.boxes.reshape(-1, 2, 2) / scale_xy
    boxes = _xywh(np.clip(corners, 0, original_hw[::-1]))
    rois = _xywh(detections.rois.reshape(-1, 2, 2) / scale_xy)  # not clipped, because masks are relative to the RoI
    centres = np.round(detections.mask_centres / scale_xy, 3)
    sigmas = np.round(detections.mask_sigmas / scale_xy, 3)
    results = []
    for i, label in enumerate(detections.labels):
        result = {
            "image_id": image_id,
            "category_id": category_ids[label],
            "bbox": boxes[i].tolist(),
            "score": round(float(detections.scores[i]), 6),
        }
        if centres.shape[1]:
            result |= {"roi": rois[i].tolist(), "mask_centres": centres[i].tolist(), "mask_sigmas": sigmas[i].tolist()}
        if detections.masks.shape[-1]:
            result["segmentation"] = _segmentation(
                detections.masks[i], corners[i].reshape(4), tuple(original_hw.tolist())
            )
        results.append(result)
    return results


def _segmentation(mask: Float[np.ndarray, "p p"], box: Float[np.ndarray, "4"], hw: HW) -> dict[str, Any]:
    rle = to_rle(paste(mask, box, hw), hw)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def _xywh(corners: Float[np.ndarray, "n 2 2"]) -> Float[np.ndarray, "n 4"]:
    return np.round(np.concatenate([corners[:, 0], corners[:, 1] - corners[:, 0]], axis=1), 3)
