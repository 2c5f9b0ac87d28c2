"""Plans the images and the static shape of each training step.

A bucket is a static padded (height, width). Every image belongs to one bucket at all sizes: the bucket that shows the
image largest and, among equals, has the fewest pixels. An image larger than its bucket is reduced, or cropped with
large-scale jitter.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from lga_jax.data.augment.geometry import fit_hw
from lga_jax.data.augment.view import HW
from lga_jax.data.source import Record

_ORDER, _VIEWS, _TRANSFORMS = 0, 1, 2  # independent streams of random numbers from one seed

Buckets = Sequence[HW]


class PlannedBatch(NamedTuple):
    """The images of one step on all devices of all processes."""

    bucket: int  # position in the config's buckets
    index: Int[np.ndarray, "n"]  # positions in the source; -1 fills up a batch


def choose_bucket(hw: HW, buckets: Buckets) -> int:
    """The bucket that reduces an image of size `hw` least; among equals the one with the fewest pixels."""

    def loss_then_area(bucket: int) -> tuple[float, int]:
        height, width = buckets[bucket]
        return -min(1.0, height / hw[0], width / hw[1]), height * width

    return min(range(len(buckets)), key=loss_then_area)


def assign_buckets(records: Sequence[Record], buckets: Buckets, resized_hw: Callable[[HW], HW]) -> Int[np.ndarray, "n"]:
    """The bucket of every image. `resized_hw`: stored size -> largest size in training or evaluation."""
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
    """The share of padding in the pixels of an epoch if every image has its largest size.

    resized_hw: stored size -> largest size. bucket_of: bucket of every image. shares: how often an epoch shows it.
    """
    seen = np.array([(record.height, record.width, bucket) for record, bucket in zip(records, bucket_of, strict=True)])
    different, which = np.unique(seen, axis=0, return_inverse=True)
    times = np.bincount(which.reshape(-1), shares)
    bounds = [buckets[bucket] for bucket in different[:, 2]]
    sizes = [fit_hw(resized_hw((h, w)), bound) for (h, w, _), bound in zip(different.tolist(), bounds, strict=True)]
    return 1 - times @ np.prod(sizes, axis=1) / (times @ np.prod(bounds, axis=1))


class BatchPlan:
    """The order of training: a pure function of (seed, step), the same for any number of processes and workers.

    Every epoch has the same number of batches. Each bucket gets the batches for its images times their weights, rounded
    up; the last batch is filled up by raising the shares of the whole bucket. `shares` says how often an epoch shows
    each image: rounded up or down in one epoch, exact in the mean over epochs.
    """

    def __init__(
        self, bucket_of: Int[np.ndarray, "n"], weights: Float[np.ndarray, "n"], batch_size: int, seed: int
    ) -> None:
        """`bucket_of` and `weights`: of every image; `batch_size`: over all devices and processes."""
        self._members = [np.flatnonzero(bucket_of == bucket) for bucket in range(int(bucket_of.max()) + 1)]
        wanted = np.bincount(bucket_of, weights)
        # Rounding: sums of weights such as 0.7 have floating-point errors.
        num_batches = np.maximum(np.ceil(np.round(wanted / batch_size, 9)), wanted > 0).astype(np.int64)
        self._bucket_of_batch = np.repeat(np.arange(len(num_batches)), num_batches)
        self._batch_size, self._seed = batch_size, seed
        self._epoch = -1  # the epoch in _images and _buckets
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

    def transform_rng(self, step: int, position: int) -> np.random.Generator:
        """Randomness for the user's transform of this image, independent of its view."""
        return self._rng(_TRANSFORMS, step, position)

    def _draw_epoch(self, epoch: int) -> tuple[Int[np.ndarray, "n b"], Int[np.ndarray, "n"]]:
        rng = self._rng(_ORDER, epoch)
        batches = [rng.permutation(self._draw_images(rng, members)) for members in self._members if len(members)]
        order = rng.permutation(self.steps_per_epoch)
        return np.concatenate(batches).reshape(-1, self._batch_size)[order], self._bucket_of_batch[order]

    def _draw_images(self, rng: np.random.Generator, members: Int[np.ndarray, "n"]) -> Int[np.ndarray, "q"]:
        """An image with share 2.3 is drawn twice, and a third time with probability 0.3, by systematic sampling.

        Systematic sampling draws one random number: the fractions are intervals on a line, and equally spaced points
        select images. So the number of images is fixed, and the probability of an image is its fraction.
        """
        counts = np.floor(self.shares[members]).astype(np.int64)
        ends = np.cumsum(self.shares[members] - counts)
        num_points = round(ends[-1])
        if num_points:
            points = (np.arange(num_points) + rng.random()) / num_points
            counts += np.bincount(np.searchsorted(ends / ends[-1], points), minlength=len(members))
        return np.repeat(members, counts)

    def _rng(self, stream: int, *place: int) -> np.random.Generator:
        # Philox is a function of (key, counter). Neighbouring places are 2**128 numbers apart.
        counter = [0, 0, *([0] * (2 - len(place))), *place]
        key = np.array([self._seed % 2**64, stream], np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))


def plan_evaluation(bucket_of: Int[np.ndarray, "n"], batch_size: int) -> list[PlannedBatch]:
    """Every image exactly once, bucket after bucket, in the order of the source; last batches are filled with -1."""
    plan = []
    for bucket in np.unique(bucket_of):
        members = np.flatnonzero(bucket_of == bucket)
        filled = np.pad(members, (0, -len(members) % batch_size), constant_values=-1)
        plan += [PlannedBatch(int(bucket), index) for index in filled.reshape(-1, batch_size)]
    return plan


def num_slots(records: Sequence[Record], max_boxes: int | None, pasting: bool) -> int:
    """Ground-truth slots per image: `max_boxes`, or for None the number that can be needed; at least 1.

    That is the largest number of boxes to train on in an image, or twice that number with `pasting`.
    """
    return max_boxes or max(1, max(_num_trained(record) for record in records) * (2 if pasting else 1))


def report_overflow(records: Sequence[Record], slots: int) -> list[str]:
    """One report line if images have more boxes than slots."""
    over = [count - slots for record in records if (count := _num_trained(record)) > slots]
    if not over:
        return []
    what = f"{sum(over)} boxes of {len(over)} images are left out of training, because an image has {slots} slots"
    return [f"{what}; the largest are kept (data.max_boxes = {slots + max(over)} or unset keeps all)"]


def _num_trained(record: Record) -> int:
    return len(record.crowd) - int(np.count_nonzero(record.crowd))
