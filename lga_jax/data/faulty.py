"""Refuses a data set with more unreadable images or unusable boxes than chance explains.

Single damaged files are normal in large sets: they are replaced by grey images, counted, and training continues. A
fault of the whole set (files that were never downloaded, another box format, the wrong folder) hits all or many images
and would train a detector of nothing.
"""

import bisect
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from ml_collections import ConfigDict

from lga_jax.data.object_masks import MASK_FAULTS
from lga_jax.data.source import Part, Source, UnreadableImageError, mask_counts_of, parts_of, unusable_boxes_of
from lga_jax.errors import UserError, counted, listed, printable

_NUM_SAMPLED = 32  # images of each part read at the start of a run
_CHANCE = 1e-3


def is_beyond_chance(num_faulty: int, num_seen: int, largest_share: float) -> bool:
    """Whether so many faulty ones among those seen mean that the share in the whole set is above `largest_share`.

    With this share in the whole set, so many would be seen by chance with a probability of at most 0.001. This is
    Chernoff's bound: log probability <= -n KL(found share || largest share). All of 3, 11 of
    32, 38 of 200 and 138 of 1,000 are beyond a share of 0.1; 3 of 4 are not.
    """
    found = num_faulty / max(num_seen, 1)
    if found <= largest_share:
        return False
    if largest_share == 0:
        return True
    divergence = found * math.log(found / largest_share)
    if found < 1:
        divergence += (1 - found) * math.log((1 - found) / (1 - largest_share))
    return num_seen * divergence >= -math.log(_CHANCE)


class ImageCount:
    """Counts images and the unreadable ones among them, each once. Each part of a source is judged by itself."""

    def __init__(self, parts: Sequence[Part], largest_share: float) -> None:
        """`largest_share`: of unreadable images; 1.0: no limit."""
        self._parts, self._largest_share = parts, largest_share
        self._stops = [part.stop for part in parts]
        self._seen: set[int] = set()
        self._num_seen = [0] * len(parts)
        self.errors: dict[int, UnreadableImageError] = {}

    def add(self, seen: Sequence[int], errors: Mapping[int, UnreadableImageError]) -> list[UnreadableImageError]:
        """Adds images by index; returns the errors of images that were not counted before."""
        for index in set(seen) - self._seen:
            self._num_seen[self._part_of(index)] += 1
        self._seen.update(seen)
        new = [error for index, error in errors.items() if index not in self.errors]
        self.errors |= errors
        return new

    def check(self, place: str) -> None:
        """Raises UserError if the unreadable images of a part are too many for chance, or all of its images."""
        faulty: dict[int, list[UnreadableImageError]] = {}
        for index, error in self.errors.items():
            faulty.setdefault(self._part_of(index), []).append(error)
        for number, errors in sorted(faulty.items()):
            part, num_seen = self._parts[number], self._num_seen[number]
            all_faulty = len(errors) == part.stop - part.start and self._largest_share < 1
            if all_faulty or is_beyond_chance(len(errors), num_seen, self._largest_share):
                where = ": ".join(filter(None, (place, part.where)))
                raise _too_many_images(where, errors, num_seen, self._largest_share)

    def _part_of(self, index: int) -> int:
        return bisect.bisect_right(self._stops, index)


def check_data(place: str, source: Source, data_config: ConfigDict) -> None:
    """Raises UserError if the source has no boxes, or more faults than `data_config.max_faulty` and chance explain.

    Reads a sample of the images of each part of the source, spread over the whole part.

    place: "data.train" or "data.eval".
    """
    _check_boxes(place, source, data_config.max_faulty)
    if data_config.max_faulty < 1:
        _check_sample(place, source, data_config.max_faulty, data_config.num_workers)


def check_masks(place: str, source: Source) -> list[str]:
    """Counts the object masks of a source for a detector with a mask head; report lines.

    Raises UserError if no box has a usable one. place: "data.train" or "data.eval".
    """
    counted_sets = mask_counts_of(source)
    total, lines = sum(counts.total for counts in counted_sets), []
    faulty = sum(sum(counts.faults.values()) for counts in counted_sets)
    if faulty == total > 0:
        raise UserError(
            place,
            expected="object masks for model.mask_head (`segmentation` in COCO's JSON)",
            found=f"none that can be used, in {counted(total, 'box')}",
            remedy="name annotations with masks, or train without a mask head",
        )
    for counts in counted_sets:
        where = f"{counts.where}: " if counts.where else ""
        usable = counts.total - sum(counts.faults.values())
        lines.append(f"{where}{usable} object masks")
        lines += [
            f"{where}{counted(number, 'box')} {MASK_FAULTS[kind]}: left out of the mask loss, the boxes are kept"
            for kind, number in counts.faults.items()
        ]
    return lines


def _check_boxes(place: str, source: Source, largest_share: float) -> None:
    for boxes in unusable_boxes_of(source):
        all_unusable = boxes.count == boxes.total > 0 and largest_share < 1
        if all_unusable or is_beyond_chance(boxes.count, boxes.total, largest_share):
            raise UserError(
                f"{place}: {boxes.where}",
                expected=f"at most {largest_share:.0%} of the boxes without an area or outside their image",
                found=f"{boxes.count:,} of {counted(boxes.total, 'box')}, first in {listed(boxes.first, 3)}",
                remedy="write bbox as [x, y, width, height] in pixels of the image as stored "
                "(lga_jax doctor lists all; data.max_faulty is the limit)",
            )
    if all(record.crowd.all() for record in source.records):
        found = f"none in {counted(len(source.records), 'image')}"
        if any(len(record.crowd) for record in source.records):
            found += ", only boxes around crowds"
        purpose = "score" if place == "data.eval" else "train on"
        raise UserError(
            place,
            expected=f"at least one box to {purpose}",
            found=found,
            remedy="name an annotation file with boxes",
        )


def _check_sample(place: str, source: Source, largest_share: float, num_threads: int) -> None:
    parts = parts_of(source)
    chosen = [index for part in parts for index in _spread(part)]

    def error_of(index: int) -> UnreadableImageError | None:
        try:
            source.image(index)
        except UnreadableImageError as error:
            return error
        return None

    with ThreadPoolExecutor(num_threads, thread_name_prefix="sample") as workers:
        errors = dict(zip(chosen, workers.map(error_of, chosen), strict=True))
    count = ImageCount(parts, largest_share)
    count.add(chosen, {index: error for index, error in errors.items() if error is not None})
    count.check(place)


def _spread(part: Part) -> list[int]:
    count = min(part.stop - part.start, _NUM_SAMPLED)
    return np.unique(np.linspace(part.start, part.stop - 1, count).round().astype(int)).tolist()


def _too_many_images(
    place: str, errors: Sequence[UnreadableImageError], num_seen: int, largest_share: float
) -> UserError:
    cause, remedy = Counter((error.found, error.remedy) for error in errors).most_common(1)[0][0]
    named = [error for error in errors if error.found == cause]
    names = listed([printable(os.path.basename(error.subject)) for error in named], 3)
    return UserError(
        place,
        expected=f"at most {largest_share:.0%} unreadable images",
        found=f"{len(errors):,} of {counted(num_seen, 'image')} read so far, {len(named):,} of them {cause}: {names}",
        remedy=f"{remedy} (lga_jax doctor lists all; data.max_faulty is the limit)",
    )
