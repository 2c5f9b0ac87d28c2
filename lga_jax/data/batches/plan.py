"""Which images a step sees, in which static shape, and how they are laid into a batch.

Every image belongs to one bucket, a static padded (height, width), whatever size a step draws for it: the bucket that
keeps the image largest and, of those, has the fewest pixels. An image that no bucket holds is made smaller, unless
large-scale jitter asks for a crop.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from lga_jax.data.augment.geometry import fit_hw
from lga_jax.data.augment.view import HW
from lga_jax.data.source import Record

_ORDER, _VIEWS = 0, 1  # independent streams of random numbers from one seed

Buckets = Sequence[HW]


class PlannedBatch(NamedTuple):
    """The images of one step over all devices and processes."""

    bucket: int  # position in the config's buckets
    index: Int[np.ndarray, "n"]  # positions in the source, -1 where a batch is only filled up


def choose_bucket(hw: HW, buckets: Buckets) -> int:
    """The bucket in which a resized image of size `hw` loses least; of equals the one with the fewest pixels."""

    def loss_then_area(bucket: int) -> tuple[float, int]:
        height, width = buckets[bucket]
        return -min(1.0, height / hw[0], width / hw[1]), height * width

    return min(range(len(buckets)), key=loss_then_area)


def assign_buckets(records: Sequence[Record], buckets: Buckets, resized_hw: Callable[[HW], HW]) -> Int[np.ndarray, "n"]:
    """The bucket of every image. `resized_hw`: the size as stored -> the largest one at which the image is seen."""
    sizes = np.array([(record.height, record.width) for record in records])
    different, which = np.unique(sizes, axis=0, return_inverse=True)
    chosen = [choose_bucket(resized_hw((height, width)), buckets) for height, width in different.tolist()]
    return np.array(chosen, np.int64)[which.reshape(-1)]


def padded_share(
    records: Sequence[Record],
    buckets: Buckets,
    resized_hw: Callable[[HW], HW],
    bucket_of: Int[np.ndarray, "n"],
    shares: Float[np.ndarray, "n"],
) -> float:
    """How much of the pixels of an epoch is padding, if every image has its largest size, `resized_hw`, in its bucket.

    `bucket_of` and `shares`, how often the epoch sees it, are those of every image.
    """
    seen = np.array([(record.height, record.width, bucket) for record, bucket in zip(records, bucket_of, strict=True)])
    different, which = np.unique(seen, axis=0, return_inverse=True)
    times = np.bincount(which.reshape(-1), shares)
    bounds = [buckets[bucket] for bucket in different[:, 2]]
    sizes = [fit_hw(resized_hw((h, w)), bound) for (h, w, _), bound in zip(different.tolist(), bounds, strict=True)]
    return 1 - times @ np.prod(sizes, axis=1) / (times @ np.prod(bounds, axis=1))


class BatchPlan:
    """The order of training: a pure function of (seed, step), the same for any number of processes and workers.

    Every epoch has the same number of batches: as many as the images fill of each bucket if each is seen as often as
    its weight says, the last one filled up by showing all of the bucket a little more often. `shares` are how often an
    epoch sees each image: never a whole time less or more, and exactly so in the mean over epochs.
    """

    def __init__(
        self, bucket_of: Int[np.ndarray, "n"], weights: Float[np.ndarray, "n"], batch_size: int, seed: int
    ) -> None:
        """`bucket_of` and `weights`: of every image; `batch_size`: over all devices and processes."""
        self._members = [np.flatnonzero(bucket_of == bucket) for bucket in range(int(bucket_of.max()) + 1)]
        wanted = np.bincount(bucket_of, weights)
        # What weights as 0.7 add up to is a little more or less than what they mean.
        num_batches = np.maximum(np.ceil(np.round(wanted / batch_size, 9)), wanted > 0).astype(np.int64)
        self._bucket_of_batch = np.repeat(np.arange(len(num_batches)), num_batches)
        self._batch_size, self._seed = batch_size, seed
        self._epoch = -1  # the one that _images and _buckets hold
        self.steps_per_epoch = len(self._bucket_of_batch)
        self.shares = weights * (num_batches * batch_size)[bucket_of] / wanted[bucket_of]

    def batch(self, step: int) -> PlannedBatch:
        """The images of step 0, 1, ... of the run."""
        epoch, number = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, (self._images, self._buckets) = epoch, self._draw_epoch(epoch)
        return PlannedBatch(int(self._buckets[number]), self._images[number])

    def view_rng(self, step: int, position: int) -> np.random.Generator:
        """Randomness for the image at `position` of the global batch of `step`, independent of all others."""
        return self._rng(_VIEWS, step, position)

    def _draw_epoch(self, epoch: int) -> tuple[Int[np.ndarray, "n b"], Int[np.ndarray, "n"]]:
        rng = self._rng(_ORDER, epoch)
        batches = [rng.permutation(self._draw_images(rng, members)) for members in self._members if len(members)]
        order = rng.permutation(self.steps_per_epoch)
        return np.concatenate(batches).reshape(-1, self._batch_size)[order], self._bucket_of_batch[order]

    def _draw_images(self, rng: np.random.Generator, members: Int[np.ndarray, "n"]) -> Int[np.ndarray, "q"]:
        """Each image as many whole times as its share has; what is missing then by systematic sampling of the rest.

        That draws one number: equally spaced points on the line of all fractions, laid end to end. The number of points
        is fixed, and an image's chance of being hit is its fraction.
        """
        counts = np.floor(self.shares[members]).astype(np.int64)
        ends = np.cumsum(self.shares[members] - counts)
        num_points = round(ends[-1])
        if num_points:
            points = (np.arange(num_points) + rng.random()) / num_points
            counts += np.bincount(np.searchsorted(ends / ends[-1], points), minlength=len(members))
        return np.repeat(members, counts)

    def _rng(self, stream: int, *place: int) -> np.random.Generator:
        # Philox is a function of (key, counter); a place leaves 2**128 numbers to each of its neighbours.
        counter = [0, 0, *([0] * (2 - len(place))), *place]
        key = np.array([self._seed % 2**64, stream], np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))


def plan_evaluation(bucket_of: Int[np.ndarray, "n"], batch_size: int) -> list[PlannedBatch]:
    """Every image exactly once, bucket after bucket, each in the order of the source; the last ones filled with -1."""
    plan = []
    for bucket in np.unique(bucket_of):
        members = np.flatnonzero(bucket_of == bucket)
        filled = np.pad(members, (0, -len(members) % batch_size), constant_values=-1)
        plan += [PlannedBatch(int(bucket), index) for index in filled.reshape(-1, batch_size)]
    return plan


def num_slots(records: Sequence[Record], max_boxes: int | None, pasting: bool) -> int:
    """Ground-truth slots per image: `max_boxes`, or (None) as many as can be needed; at least 1.

    An image needs as many as it has boxes to train on, and with `pasting` as many again for those of another image.
    """
    return max_boxes or max(1, max(_num_trained(record) for record in records) * (2 if pasting else 1))


def report_overflow(records: Sequence[Record], slots: int) -> list[str]:
    """One line for people if images have more boxes than slots, none otherwise."""
    over = [count - slots for record in records if (count := _num_trained(record)) > slots]
    if not over:
        return []
    what = f"{sum(over)} boxes of {len(over)} images find no slot among {slots} and are left out of training"
    return [f"{what}; the largest are kept (data.max_boxes = {slots + max(over)}, or unset, keeps all)"]


def _num_trained(record: Record) -> int:
    return len(record.crowd) - int(np.count_nonzero(record.crowd))
