"""Batches on the devices: threads decode ahead of the step, the order and content depend on (seed, step) alone."""

import itertools
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from lga_jax.data.batching import (
    BatchPlan,
    PlannedBatch,
    assign_buckets,
    empty_batch,
    num_slots,
    plan_evaluation,
    report_overflow,
    write_image,
)
from lga_jax.data.records import Source, UnreadableImageError
from lga_jax.data.transforms import View, draw_view
from lga_jax.errors import UserError
from lga_jax.structs import Batch

_LOG = logging.getLogger(__name__)


class TrainLoader:
    """An endless iterator of training batches, leaves [local_devices, images per device, ...].

    Step t holds the same bytes for any number of workers, and for a run that starts at t as for one that came there. The
    members of its global batch do not depend on the number of processes either: each loads its own part.
    """

    def __init__(
        self,
        source: Source,
        data_config: ConfigDict,
        seed: int,
        batch_size: int,
        start_step: int,
        local_devices: Sequence[jax.Device],
        process_index: int | None = None,
        process_count: int | None = None,
    ) -> None:
        """`batch_size` is over all devices of all processes. `process_index` and `_count`: None asks JAX."""
        _check_settings(data_config)
        share = _share(batch_size, local_devices, process_index, process_count)
        slots = num_slots(source.records, data_config.max_boxes)
        bucket_of = assign_buckets(
            source.records, data_config.buckets, max(data_config.short_edges), data_config.long_edge
        )
        self._plan = BatchPlan(bucket_of, batch_size, seed)
        self._step, self._seed, self._batch_size = start_step, seed, batch_size
        self._num_images, self._fingerprint = len(source.records), source.fingerprint
        self.steps_per_epoch = self._plan.steps_per_epoch
        self.report = [
            f"an epoch is {self.steps_per_epoch} steps; {slots} ground-truth slots per image",
            *_report_repeated(self._plan.num_repeated),
            *report_overflow(source.records, slots),
        ]
        jobs = (self._job(step, share, data_config) for step in itertools.count(start_step))
        self._pipeline = _Pipeline(source, data_config, jobs, slots, local_devices)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        batch = next(self._pipeline)
        self._step += 1
        return batch

    def position(self) -> dict[str, int | str]:
        """What a checkpoint keeps: the step whose batch comes next, and what that batch depends on."""
        return {
            "step": self._step,
            "seed": self._seed,
            "batch_size": self._batch_size,
            "num_images": self._num_images,
            "fingerprint": self._fingerprint,
        }

    @property
    def num_unreadable(self) -> int:
        """Images found so far of which nothing can be decoded, in the steps that were loaded."""
        return self._pipeline.num_unreadable

    def close(self) -> None:
        """Ends the threads."""
        self._pipeline.close()

    def _job(self, step: int, share: slice, data_config: ConfigDict) -> "_Job":
        bucket, index = self._plan.batch(step)
        views = [
            draw_view(self._plan.view_rng(step, position), data_config.short_edges, data_config.flip_probability)
            for position in range(share.start, share.stop)
        ]
        return _Job(data_config.buckets[bucket], index[share].tolist(), views)


class EvalLoader:
    """Every image once over all processes, in batches with leaves [local_devices, images per device, ...].

    All processes run the same number of batches of the same shapes. Rows that only fill a batch have index -1. Targets
    are empty: evaluation compares with the source's coco_json().
    """

    def __init__(
        self,
        source: Source,
        data_config: ConfigDict,
        batch_size: int,
        local_devices: Sequence[jax.Device],
        process_index: int | None = None,
        process_count: int | None = None,
    ) -> None:
        """`batch_size` is over all devices of all processes. `process_index` and `_count`: None asks JAX."""
        _check_settings(data_config)
        share = _share(batch_size, local_devices, process_index, process_count)
        short_edge, buckets = data_config.eval_short_edge, data_config.buckets
        plan = plan_evaluation(assign_buckets(source.records, buckets, short_edge, data_config.long_edge), batch_size)
        view = View(short_edge, flip=False)
        jobs = (_evaluation_job(planned, share, buckets, view) for planned in plan)
        self._num_batches = len(plan)
        self._pipeline = _Pipeline(source, data_config, jobs, slots=1, local_devices=local_devices)

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        return next(self._pipeline)

    def close(self) -> None:
        """Ends the threads."""
        self._pipeline.close()


def check_position(saved: Mapping, current: Mapping) -> None:
    """Raises UserError unless two positions of a TrainLoader, whatever their steps, are in the same data."""
    names = {
        "seed": "seed",
        "batch_size": "batch_size",
        "num_images": "number of training images",
        "fingerprint": "training annotations (digest)",
    }
    for key, name in names.items():
        if saved.get(key) != current[key]:
            raise UserError(
                f"{name}: expected {saved.get(key)!r} as the checkpoint was trained with, found {current[key]!r};"
                " restore it, or start anew in another workdir"
            )


class _Job(NamedTuple):
    """What this process loads for one batch."""

    bucket_hw: tuple[int, int]
    index: list[int]  # -1: leave the row empty
    views: list[View]


class _Loading(NamedTuple):
    """A batch that workers are writing into."""

    batch: Batch
    rows: list[Future]

    def is_done(self) -> bool:
        return all(row.done() for row in self.rows)


class _Pipeline:
    """Jobs in, batches on the devices out, in order. What goes wrong in a worker is raised where its batch is due."""

    def __init__(
        self,
        source: Source,
        data_config: ConfigDict,
        jobs: Iterator[_Job],
        slots: int,
        local_devices: Sequence[jax.Device],
    ) -> None:
        self._source, self._jobs, self._slots = source, jobs, slots
        self._long_edge, self._prefetch = data_config.long_edge, data_config.prefetch
        self._num_workers, self._num_devices = data_config.num_workers, len(local_devices)
        self._sharding = NamedSharding(Mesh(np.array(local_devices), ("devices",)), PartitionSpec("devices"))
        self._workers = ThreadPoolExecutor(data_config.num_workers, thread_name_prefix="decode")
        self._loading: deque[_Loading] = deque()
        self._on_device: deque[Batch] = deque()
        self._unreadable: set[int] = set()

    def __next__(self) -> Batch:
        self._start_loading()
        while self._loading and (not self._on_device or self._may_move_another()):
            self._on_device.append(self._put(self._loading.popleft()))
            self._start_loading()
        if not self._on_device:
            self.close()
            raise StopIteration
        return self._on_device.popleft()

    @property
    def num_unreadable(self) -> int:
        return len(self._unreadable)

    def close(self) -> None:
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._jobs = iter(())
        self._loading.clear()
        self._on_device.clear()

    def _may_move_another(self) -> bool:
        # One is about to be handed out; `prefetch` more wait on the devices. None of them is worth waiting for.
        return len(self._on_device) <= self._prefetch and self._loading[0].is_done()

    def _start_loading(self) -> None:
        # Enough rows in flight that no worker idles, and a batch for each place that becomes free on the devices.
        while len(self._loading) <= self._prefetch or self._num_rows_loading() < 2 * self._num_workers:
            job = next(self._jobs, None)
            if job is None:
                return
            batch = empty_batch(len(job.index), job.bucket_hw, self._slots)
            rows = [
                self._workers.submit(self._load, batch, row, index, view)
                for row, (index, view) in enumerate(zip(job.index, job.views, strict=True))
                if index >= 0
            ]
            self._loading.append(_Loading(batch, rows))

    def _num_rows_loading(self) -> int:
        return sum(len(loading.batch.index) for loading in self._loading)

    def _load(self, batch: Batch, row: int, index: int, view: View) -> None:
        try:
            image = self._source.image(index)
        except UnreadableImageError as error:
            image = None
            if index not in self._unreadable:
                self._unreadable.add(index)
                _LOG.warning("%s (used as grey without boxes; %d such images so far)", error, len(self._unreadable))
        write_image(batch, row, index, self._source.records[index], image, view, self._long_edge)

    def _put(self, loading: _Loading) -> Batch:
        for row in loading.rows:
            row.result()
        split = (self._num_devices, -1)
        batch = jax.tree.map(lambda leaf: leaf.reshape(*split, *leaf.shape[1:]), loading.batch)
        return jax.device_put(batch, self._sharding)


def _evaluation_job(planned: PlannedBatch, share: slice, buckets: Sequence[tuple[int, int]], view: View) -> _Job:
    index = planned.index[share].tolist()
    return _Job(buckets[planned.bucket], index, [view] * len(index))


def _share(
    batch_size: int, local_devices: Sequence[jax.Device], process_index: int | None, process_count: int | None
) -> slice:
    """The rows of the global batch that this process loads."""
    index = jax.process_index() if process_index is None else process_index
    count = jax.process_count() if process_count is None else process_count
    num_devices = count * len(local_devices)
    below = batch_size // num_devices * num_devices
    if below != batch_size or batch_size < 1:
        sizes = f"{below} or {below + num_devices}" if below > 0 else f"{num_devices}"
        raise UserError(
            f"batch_size: expected a multiple of the number of devices ({num_devices}), found {batch_size};"
            f" the nearest that work: {sizes}"
        )
    size = batch_size // count
    return slice(index * size, (index + 1) * size)


def _report_repeated(count: int) -> list[str]:
    return [f"{count} images an epoch are seen twice or more, to fill the last batch of each bucket"] if count else []


def _check_settings(data_config: ConfigDict) -> None:
    sides = [side for bucket in data_config.buckets for side in bucket]
    edges = [*data_config.short_edges, data_config.eval_short_edge, data_config.long_edge]
    checks = {
        "buckets": bool(sides) and all(len(bucket) == 2 for bucket in data_config.buckets) and min(sides) > 0,
        "short_edges": len(data_config.short_edges) > 0 and min(edges) > 0,
        "num_workers": data_config.num_workers >= 1,
        "prefetch": data_config.prefetch >= 0,
        "flip_probability": 0 <= data_config.flip_probability <= 1,
    }
    expected = {
        "buckets": "one (height, width) or more, in pixels",
        "short_edges": "one length or more, all edges in pixels",
        "num_workers": "at least 1",
        "prefetch": "at least 0",
        "flip_probability": "from 0 to 1",
    }
    for name, good in checks.items():
        if not good:
            raise UserError(f"data.{name}: expected {expected[name]}, found {data_config[name]}; correct the config")
