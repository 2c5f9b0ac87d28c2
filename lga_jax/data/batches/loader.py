"""Iterators of batches. Training batches depend on (seed, step) only; evaluation has every image once."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import jax
import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from lga_jax.data.augment.donor import draw_donor
from lga_jax.data.augment.transform import KEY, Transform, find_transform
from lga_jax.data.augment.view import HW, draw_view, evaluation_hw, evaluation_view, training_hw
from lga_jax.data.batches.fill import MASK_SIDE
from lga_jax.data.batches.lookahead import Lookahead
from lga_jax.data.batches.pipeline import Job, Pipeline
from lga_jax.data.batches.plan import (
    BatchPlan,
    assign_buckets,
    num_slots,
    padded_share,
    plan_evaluation,
    report_overflow,
)
from lga_jax.data.batches.repeats import repeat_factors, report_repeats
from lga_jax.data.source import Source, fingerprint_of
from lga_jax.errors import UserError
from lga_jax.structs import Batch


class TrainLoader:
    """An endless iterator of training batches, leaves [local_devices, images per device, ...].

    The batch of step t has the same bytes for any number of workers and after a resume. The images of the global batch
    do not depend on the number of processes; each process loads its own part. `report` holds report lines for the start
    of training; `num_unreadable` and `num_without_slot` are counts for its end. The user's transform is tried on the
    first images when the loader is made.
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
        *,
        object_masks: bool = False,
        lookahead: int = 0,
    ) -> None:
        """`batch_size` is over all devices of all processes. `process_index` and `_count`: None asks JAX.

        object_masks: the targets have the masks of the objects too, which the source reads for it.
        lookahead: the number of batches loaded beside the one that is returned, for `error_until`.
        """
        share = _share(batch_size, local_devices, process_index, process_count)
        slots = num_slots(source.records, data_config.max_boxes, data_config.copy_paste > 0)
        largest_hw = partial(training_hw, data_config=data_config)
        bucket_of = assign_buckets(source.records, data_config.buckets, largest_hw)
        factors = repeat_factors(source.records, data_config.repeat_threshold)
        weights = factors * [record.weight for record in source.records]
        self._plan = BatchPlan(bucket_of, weights, batch_size, seed)
        padding = padded_share(source.records, data_config.buckets, largest_hw, bucket_of, self._plan.shares)
        self._step, self._seed, self._batch_size = start_step, seed, batch_size
        self._num_images, self._fingerprint = len(source.records), fingerprint_of(source)
        self.steps_per_epoch = self._plan.steps_per_epoch
        self.report = [
            f"an epoch is {self.steps_per_epoch} steps; {slots} ground-truth slots per image",
            f"{padding:.1%} of the pixels of an epoch are padding if every image has its largest size",
            *report_repeats(factors, data_config.repeat_threshold),
            *_report_filled(self.steps_per_epoch * batch_size, weights.sum()),
            *_report_small_buckets(bucket_of, self._plan.shares, data_config.buckets, batch_size),
            *report_overflow(source.records, slots),
        ]
        jobs = (self._job(step, share, source, data_config) for step in itertools.count(start_step))
        transform = _find_transform(data_config.transform, object_masks)
        mask_side = MASK_SIDE if object_masks else 0
        self._pipeline = Pipeline(
            source, data_config, jobs, slots, local_devices, data_config.max_faulty, mask_side, transform
        )
        if transform:
            self.report += self._pipeline.rehearse(self._job(start_step, share, source, data_config))
        self._batches = Lookahead(self._pipeline.__next__, lookahead)
        self._shapes = _shapes(data_config.buckets, bucket_of, share)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = next(self._batches)
        self._step += 1
        return batch

    def error_until(self, step: int) -> Exception | None:
        """The error that `next` will raise for a batch before that of `step`; None if none is known yet."""
        return self._batches.error if self._step + self._batches.num_ready < step else None

    def position(self) -> dict[str, int | str]:
        """The state for a checkpoint: the step of the next batch, and the values that determine this batch."""
        return {
            "step": self._step,
            "seed": self._seed,
            "batch_size": self._batch_size,
            "num_images": self._num_images,
            "fingerprint": self._fingerprint,
        }

    @property
    def num_unreadable(self) -> int:
        """Unreadable images of this process in the batches so far, each counted once.

        They are replaced by grey images without boxes; a warning names each.
        """
        return self._pipeline.num_unreadable

    @property
    def num_without_slot(self) -> int:
        """Boxes of this process dropped after copy-paste in the batches so far.

        `report` counts the boxes that are dropped without copy-paste.
        """
        return self._pipeline.num_without_slot

    def empty_batches(self) -> Iterator[Batch]:
        """One empty batch of each shape."""
        return itertools.starmap(self._pipeline.empty_batch, self._shapes)

    def close(self) -> None:
        """Stops the threads."""
        self._pipeline.close()

    def _job(self, step: int, share: slice, source: Source, data_config: ConfigDict) -> Job:
        bucket, members = self._plan.batch(step)
        bucket_hw, index = data_config.buckets[bucket], members[share].tolist()
        views, donors, rngs = [], [], []
        for position, image in enumerate(index, start=share.start):
            rng = self._plan.view_rng(step, position)
            views.append(draw_view(rng, source.records[image], bucket_hw, data_config))
            donors.append(draw_donor(rng, source.records, bucket_hw, data_config))
            rngs.append(self._plan.transform_rng(step, position) if data_config.transform else None)
        return Job(bucket_hw, index, views, donors, rngs)


class EvalLoader:
    """Every image once over all processes, in batches with leaves [local_devices, images per device, ...].

    All processes run the same number of batches of the same shapes. Rows that only fill up a batch have index -1.
    Targets have no slots, because evaluation compares with the source's truth(), unless losses need them.
    """

    def __init__(
        self,
        source: Source,
        data_config: ConfigDict,
        batch_size: int,
        local_devices: Sequence[jax.Device],
        process_index: int | None = None,
        process_count: int | None = None,
        max_faulty: float = 1.0,
        *,
        with_targets: bool = False,
        object_masks: bool = False,
    ) -> None:
        """`batch_size` is over all devices of all processes. `process_index` and `_count`: None asks JAX.

        object_masks: targets have the masks of the objects too.
        max_faulty: the largest share of unreadable images; `next` raises UserError for more. 1.0: no limit.
        """
        share = _share(batch_size, local_devices, process_index, process_count)
        slots = num_slots(source.records, data_config.max_boxes, False) if with_targets else 0
        buckets = data_config.eval_buckets or data_config.buckets
        bucket_of = assign_buckets(source.records, buckets, partial(evaluation_hw, data_config=data_config))
        jobs = (
            _evaluation_job(source, planned.index[share].tolist(), buckets[planned.bucket], data_config)
            for planned in plan_evaluation(bucket_of, batch_size)
        )
        mask_side = MASK_SIDE if object_masks and with_targets else 0
        self._pipeline = Pipeline(source, data_config, jobs, slots, local_devices, max_faulty, mask_side)
        self.shapes = _shapes(buckets, bucket_of, share)  # ((height, width), rows of this process) of all batches

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._pipeline)

    def empty_batches(self) -> Iterator[Batch]:
        """One empty batch of each shape."""
        return itertools.starmap(self._pipeline.empty_batch, self.shapes)

    def close(self) -> None:
        """Stops the threads."""
        self._pipeline.close()


def _find_transform(name: str, object_masks: bool) -> Transform | None:
    if name and object_masks:
        raise UserError(
            KEY,
            expected="'' with masks of objects, which a transform does not move",
            found=repr(name),
            remedy="unset it",
        )
    return find_transform(name) if name else None


def check_position(saved: Mapping, current: Mapping) -> None:
    """Raises UserError if the position in a checkpoint differs from that of a new TrainLoader."""
    names = {
        "step": "step of the data",
        "seed": "seed",
        "batch_size": "batch_size",
        "num_images": "number of training images",
        "fingerprint": "training annotations (digest)",
    }
    for key, name in names.items():
        if saved.get(key) != current[key]:
            raise UserError(
                str(name),
                expected=f"{saved.get(key)!r} as in the checkpoint",
                found=f"{current[key]!r}",
                remedy="restore it, or start a new run in another workdir",
            )


def _report_filled(num_places: int, wanted: float) -> list[str]:
    if (filled := round(num_places - wanted)) == 0:
        return []
    return [f"{filled} of {num_places} places in an epoch repeat an image to fill the last batch of each bucket"]


def _report_small_buckets(
    bucket_of: Int[np.ndarray, "n"],
    shares: Float[np.ndarray, "n"],
    buckets: Sequence[tuple[int, int]],
    batch_size: int,
) -> list[str]:
    """One report line for buckets with fewer images than a batch: every epoch repeats their images."""
    counts = np.bincount(bucket_of, minlength=len(buckets)).tolist()
    small = [
        f"{height}x{width} has {count}, each up to {int(np.ceil(shares[bucket_of == bucket].max()))} times in an epoch"
        for bucket, ((height, width), count) in enumerate(zip(buckets, counts, strict=True))
        if 0 < count < batch_size
    ]
    what = f"buckets with fewer images than a batch ({batch_size}) repeat images"
    return [f"{what}: {'; '.join(small)} (fewer data.buckets or a smaller batch_size reduce this)"] if small else []


def _evaluation_job(source: Source, index: list[int], bucket_hw: HW, data_config: ConfigDict) -> Job:
    views = [evaluation_view(_stored_hw(source, image), bucket_hw, data_config) for image in index]
    return Job(bucket_hw, index, views, [None] * len(index), [None] * len(index))


def _shapes(buckets: Sequence[HW], bucket_of: Int[np.ndarray, "n"], share: slice) -> list[tuple[HW, int]]:
    """Height and width of every non-empty bucket, and the number of rows that this process loads."""
    return [(buckets[bucket], share.stop - share.start) for bucket in np.unique(bucket_of)]


def _stored_hw(source: Source, index: int) -> HW:
    record = source.records[index]
    return record.height, record.width


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
            "batch_size",
            expected=f"a multiple of the number of devices ({num_devices})",
            found=str(batch_size),
            remedy=f"set it to {sizes}",
        )
    size = batch_size // count
    return slice(index * size, (index + 1) * size)
