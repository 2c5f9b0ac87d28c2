"""Loads planned batches and puts them on the devices; threads decode ahead of the training step."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from lga_jax.data.augment.donor import Donor
from lga_jax.data.augment.transform import KEY, Transform
from lga_jax.data.augment.view import HW, View
from lga_jax.data.batches.fill import empty_batch, transform_row, write_image
from lga_jax.data.batches.paste import paste
from lga_jax.data.batches.paste_masks import Below, paste_masks
from lga_jax.data.faulty import ImageCount
from lga_jax.data.object_masks import ObjectMask
from lga_jax.data.source import Source, UnreadableImageError, is_federated, name_of, object_masks_of, parts_of
from lga_jax.errors import UserError, counted
from lga_jax.processes.mesh import batch_sharding
from lga_jax.structs import Batch

_LOG = logging.getLogger(__name__)
_REHEARSED = 16  # images on which the user's transform is tried


class Job(NamedTuple):
    """The images of one batch that this process loads."""

    bucket_hw: HW
    index: list[int]  # -1: leave the row empty
    views: list[View]  # ignored in empty rows
    donors: list[Donor | None]  # the second image of copy-paste
    rngs: list[np.random.Generator | None]  # for the user's transform


class _Row(NamedTuple):
    """What a worker found while it filled a row."""

    seen: list[int]  # images that it read
    errors: dict[int, UnreadableImageError]  # of unreadable images
    num_without_slot: int  # boxes dropped after pasting


class _Loading(NamedTuple):
    """A batch that workers are writing into; the results of the futures are _Row."""

    batch: Batch
    rows: list[Future]


class Pipeline:
    """Turns jobs into batches on the devices, in order. `next` raises an error of a worker when its batch is due."""

    def __init__(
        self,
        source: Source,
        data_config: ConfigDict,
        jobs: Iterator[Job],
        slots: int,
        local_devices: Sequence[jax.Device],
        max_faulty: float,
        mask_side: int = 0,
        transform: Transform | None = None,
    ) -> None:
        """`max_faulty`: the largest share of unreadable images; `next` raises UserError for more.

        mask_side: cells per axis of the object masks; 0: no masks are read.
        transform: the user's; every job then has a generator for each image.
        """
        self._source, self._jobs, self._mask_side = source, jobs, mask_side
        num_listed = len(source.class_names) if is_federated(source) else 0
        self._empty = partial(empty_batch, slots=slots, mask_side=mask_side, num_listed=num_listed)
        self._transform = transform
        self._kernel, self._prefetch = data_config.resize, data_config.prefetch
        self._num_workers, self._num_devices = data_config.num_workers, len(local_devices)
        self._sharding = batch_sharding(local_devices)
        self._workers = ThreadPoolExecutor(data_config.num_workers, thread_name_prefix="decode")
        self._loading: deque[_Loading] = deque()
        # A copy to the devices takes milliseconds, in which the thread that starts the steps has other work.
        self._mover = ThreadPoolExecutor(1, thread_name_prefix="transfer")
        self._on_device: deque[Future] = deque()  # results: (batch, list of _Row)
        self._images = ImageCount(parts_of(source), max_faulty)
        self.num_without_slot = 0  # boxes dropped after pasting, in the batches that `next` returned

    def __next__(self) -> Batch:
        self._start_loading()
        # One batch is returned next and `prefetch` more stay on the devices.
        while self._loading and len(self._on_device) <= self._prefetch:
            self._on_device.append(self._mover.submit(self._put, self._loading.popleft()))
            self._start_loading()
        if not self._on_device:
            self.close()
            raise StopIteration
        batch, rows = self._on_device[0].result()
        self._count_images(rows)
        self._on_device.popleft()  # only now: a failed batch and too many unreadable images raise their error again
        self.num_without_slot += sum(row.num_without_slot for row in rows)
        return batch

    def empty_batch(self, bucket_hw: HW, num_rows: int) -> Batch:
        """An empty batch of a bucket; `num_rows` are the rows of this process."""
        return self._to_devices(self._empty(num_rows, bucket_hw))

    def rehearse(self, job: Job) -> list[str]:
        """Tries the user's transform on the first images of a job. Returns a report line if it removes boxes.

        Raises UserError for a faulty result, if it removes all boxes, and if a second call with the same arguments
        gives another result: then a resumed run would see other images.
        """
        rows, counts = list(zip(job.index, job.views, job.donors, job.rngs, strict=True))[:_REHEARSED], []
        for index, view, donor, rng in rows:
            plain, one, other = (self._empty(1, job.bucket_hw) for _ in range(3))
            self._load(plain, 0, index, view, donor, None)
            for batch in (one, other):
                self._load(batch, 0, index, view, donor, deepcopy(rng))
            if not all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other))):
                raise UserError(
                    KEY,
                    expected="the same result for the same arguments",
                    found=f"two different results, for {name_of(self._source, index)}",
                    remedy="draw random numbers from the argument rng only",
                )
            counts.append((int(plain.targets.valid.sum()), int(one.targets.valid.sum())))
        return _report_removed(counts, name_of(self._source, job.index[0]))

    @property
    def num_unreadable(self) -> int:
        """Unreadable images in the batches that `next` returned, each counted once."""
        return len(self._images.errors)

    def close(self) -> None:
        for threads in (self._workers, self._mover):
            threads.shutdown(wait=True, cancel_futures=True)
        self._jobs = iter(())
        self._loading.clear()
        self._on_device.clear()

    def _start_loading(self) -> None:
        # Enough rows to keep all workers busy, and at least one batch for each free place on the devices.
        while len(self._loading) <= self._prefetch or self._num_rows_loading() < 2 * self._num_workers:
            job = next(self._jobs, None)
            if job is None:
                return
            batch = self._empty(len(job.index), job.bucket_hw)
            rows = [
                self._workers.submit(self._load, batch, row, *arguments)
                for row, arguments in enumerate(zip(job.index, job.views, job.donors, job.rngs, strict=True))
                if arguments[0] >= 0
            ]
            self._loading.append(_Loading(batch, rows))

    def _num_rows_loading(self) -> int:
        return sum(len(loading.batch.index) for loading in self._loading)

    def _load(
        self,
        batch: Batch,
        row: int,
        index: int,
        view: View,
        donor: Donor | None,
        rng: np.random.Generator | None,
    ) -> _Row:
        """Fills a row. Without `rng` the user's transform is not called."""
        records, errors, seen, num_lost = self._source.records, {}, [index], 0
        masks, image = self._masks(index), self._image(index, errors)
        write_image(batch, row, index, records[index], image, view, self._kernel, masks)
        below = None if image is None else Below(records[index], view, masks)
        if donor and donor.pasted.any():
            seen.append(donor.index)
            if (image := self._image(donor.index, errors)) is not None:
                num_lost = self._paste(batch, row, below, image, donor)
        if rng is not None and index not in errors:
            num_classes, name = len(self._source.class_names), name_of(self._source, index)
            num_lost += transform_row(batch, row, self._transform, rng, num_classes, name)
        return _Row(seen, errors, num_lost)

    def _paste(
        self, batch: Batch, row: int, below: Below | None, image: UInt8[np.ndarray, "h w 3"], donor: Donor
    ) -> int:
        record = self._source.records[donor.index]
        if not self._mask_side:
            return paste(batch, row, record, image, donor, self._kernel)
        masks = self._masks(donor.index)
        return paste_masks(batch, row, below, record, masks, image, donor, self._kernel)

    def _masks(self, index: int) -> Sequence[ObjectMask | None] | None:
        return object_masks_of(self._source, index) if self._mask_side else None

    def _image(self, index: int, errors: dict[int, UnreadableImageError]) -> UInt8[np.ndarray, "h w 3"] | None:
        try:
            return self._source.image(index)
        except UnreadableImageError as error:
            errors[index] = error
            return None

    def _count_images(self, rows: Sequence[_Row]) -> None:
        """Warns of new unreadable images, and raises UserError if they are too many.

        Counted in the order of batches, not when a worker reads them, so that a run stops at the same step every time.
        """
        num_before = len(self._images.errors)
        for row in rows:
            for error in self._images.add(row.seen, row.errors):
                num_before += 1
                _LOG.warning("%s (replaced by a grey image without boxes; %d such images so far)", error, num_before)
        if num_before:
            self._images.check("images")

    def _put(self, loading: _Loading) -> tuple[Batch, list[_Row]]:
        rows = [row.result() for row in loading.rows]
        return self._to_devices(loading.batch), rows

    def _to_devices(self, batch: Batch) -> Batch:
        split = (self._num_devices, len(batch.index) // self._num_devices)
        batch = jax.tree.map(lambda leaf: leaf.reshape(*split, *leaf.shape[1:]), batch)
        if self._sharding.is_fully_addressable:
            return jax.device_put(batch, self._sharding)
        return jax.tree.map(partial(jax.make_array_from_process_local_data, self._sharding), batch)


def _report_removed(counts: Sequence[tuple[int, int]], first: str) -> list[str]:
    """One report line if the user's transform removed boxes. `counts`: boxes before and after it, of each image.

    Raises UserError if it removed all. `first`: the name of the first image.
    """
    before, after = map(sum, zip(*counts, strict=True))
    if before and not after:
        raise UserError(
            KEY,
            expected="a function that keeps boxes",
            found=f"none of {counted(before, 'box')} left in {counted(len(counts), 'image')}, the first is {first}",
            remedy="correct the function",
        )
    what = f"{KEY}: {counted(before, 'box')} of the first {counted(len(counts), 'image')} became {after:,}"
    return [what] if after != before else []
