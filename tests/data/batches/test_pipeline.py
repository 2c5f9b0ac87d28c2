"""Jobs in, batches out, in order: what is decoded, counted and raised, and when threads end."""

import itertools
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing

import jax
import numpy as np
import pytest

from lga_jax.data.augment.donor import Donor
from lga_jax.data.augment.geometry import resize_into
from lga_jax.data.augment.view import View
from lga_jax.data.batches import pipeline
from lga_jax.data.batches.pipeline import Job, Pipeline
from lga_jax.data.source import UnreadableImageError
from lga_jax.errors import UserError
from lga_jax.structs import Batch
from tests.data.batches.memory import Inline, Memory, data_config

BUCKET_HW = (32, 48)


def _job(*index: int, donors: list[Donor | None] | None = None) -> Job:
    none = [None] * len(index)
    return Job(BUCKET_HW, list(index), [_view(i) for i in index], donors or none, none)


def _view(index: int) -> View:
    return View((30, 20) if index % 3 == 0 else (20, 30), (0, 0), flip=False)


def _donor(index: int, *pasted: bool) -> Donor:
    return Donor(index, _view(index), np.array(pasted, bool))


def _pipeline(
    source: Memory, jobs: Iterable[Job], slots: int = 4, max_faulty: float = 1.0, **values: object
) -> Pipeline:
    return Pipeline(source, data_config(**values), iter(jobs), slots, jax.local_devices()[:1], max_faulty)


def _all(batches: Pipeline) -> list[Batch]:
    """Those of a pipeline that ends."""
    return [jax.device_get(batch) for batch in iter(lambda: next(batches, None), None)]


def _decoders() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("decode")}


class _Counting(Memory):
    """Tells which images were decoded."""

    def __init__(self, broken: Exception | None = None) -> None:
        super().__init__(broken)
        self.decoded: list[int] = []

    def image(self, index: int) -> np.ndarray:
        self.decoded.append(index)
        return super().image(index)


@pytest.fixture
def inline(monkeypatch):
    monkeypatch.setattr(pipeline, "ThreadPoolExecutor", Inline)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_batches_come_in_the_order_of_the_jobs_and_each_image_is_decoded_once(prefetch):
    source = _Counting()
    batches = _all(_pipeline(source, [_job(1, 2), _job(7, 5), _job(8, 10)], prefetch=prefetch))
    assert [batch.index[0].tolist() for batch in batches] == [[1, 2], [7, 5], [8, 10]]
    assert sorted(source.decoded) == [1, 2, 5, 7, 8, 10]
    np.testing.assert_array_equal(batches[1].images[0, 1, :20, :30], source.image(5))


def test_a_row_without_an_image_decodes_nothing():
    source = _Counting()
    (batch,) = _all(_pipeline(source, [_job(0, -1)]))
    assert source.decoded == [0]
    assert batch.index.tolist() == [[0, -1]]
    assert not batch.images[0, 1].any()


def test_a_donor_is_decoded_only_if_something_of_it_is_pasted():
    source = _Counting()
    donors = [_donor(2, True, False), _donor(7, False, False, False)]
    (batch,) = _all(_pipeline(source, [_job(1, 5, donors=donors)]))
    assert sorted(source.decoded) == [1, 2, 5]
    assert batch.targets.valid[0].sum(axis=1).tolist() == [2, 1]  # image 1 loses its own: the pasted one covers it


def test_a_donor_that_cannot_be_decoded_pastes_nothing_and_is_counted():
    source = _Counting(broken=UnreadableImageError("4.jpg", expected="an image"))
    source.records[4] = source.records[5]
    with_donor = _pipeline(source, [_job(1, donors=[_donor(4, True)])])
    (batch,) = _all(with_donor)
    assert sorted(source.decoded) == [1, 4]
    np.testing.assert_array_equal(batch.images[0, 0, :20, :30], source.image(1))
    assert with_donor.num_unreadable == 1


@pytest.mark.parametrize("kernel", ["bilinear", "antialias"])
def test_images_and_donors_are_resized_with_the_kernel_of_the_recipe(kernel):
    """The left half of image 1 and an object in the right half of image 2, both at half their size."""
    source = Memory()
    source.records[2] = source.records[1]._replace(boxes_original=np.array([[16, 0, 30, 20]], np.float32))
    half = View((10, 15), (0, 0), flip=False)
    job = Job(BUCKET_HW, [1], [half], [Donor(2, half, np.array([True]))], [None])
    (batch,) = _all(_pipeline(source, [job], resize=kernel))
    for index, columns in ((1, slice(0, 8)), (2, slice(8, 15))):
        expected = np.zeros((10, 15, 3), np.uint8)
        resize_into(expected, source.image(index), (10, 15), (0, 0), kernel)
        np.testing.assert_array_equal(batch.images[0, 0, :10, columns], expected[:, columns])


def test_boxes_without_a_slot_are_counted_when_their_batch_is_handed_out(inline):
    """Two boxes and two pasted beside them have two slots: in each of two rows two boxes find none."""
    source = Memory()
    below, above = ([[0, 0, 5, 5], [20, 0, 25, 5]], [[0, 10, 5, 15], [20, 10, 25, 15]])
    for index, boxes in ((1, below), (2, above)):
        source.records[index] = source.records[2]._replace(boxes_original=np.array(boxes, np.float32))
    donors = [_donor(2, True, True)] * 2
    with closing(_pipeline(source, [_job(1, 1, donors=donors)] * 3, slots=2, prefetch=0)) as batches:
        for lost in (4, 8, 12):
            next(batches)
            assert batches.num_without_slot == lost


def test_an_unreadable_image_is_logged_once_and_grey_each_time(inline, caplog):
    source = Memory(broken=UnreadableImageError("4.jpg", expected="an image", found="3 bytes"))
    batches = _pipeline(source, [_job(4, 1), _job(4, 4)])
    with caplog.at_level(logging.WARNING):
        first, second = _all(batches)
    assert batches.num_unreadable == 1
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("4.jpg: expected an image, found 3 bytes (")
    for images in (first.images[0, 0], *second.images[0]):
        np.testing.assert_array_equal(images[:20, :30], 128)


class _Unreadable(Memory):
    """Images from number 4 on cannot be read."""

    def image(self, index: int) -> np.ndarray:
        if index >= 4:
            raise UnreadableImageError(f"{index}.jpg", expected="an image", found="3 bytes", remedy="replace it")
        return super().image(index)


@pytest.mark.parametrize(("prefetch", "num_workers"), [(0, 1), (2, 3)])
def test_too_many_unreadable_images_stop_at_the_same_batch_whatever_was_read_ahead(prefetch, num_workers):
    """4 of 5 unreadable images may be chance, 5 of 6 are not."""
    jobs = [_job(0), *(_job(index) for index in range(4, 13))]
    with closing(_pipeline(_Unreadable(), jobs, max_faulty=0.1, prefetch=prefetch, num_workers=num_workers)) as batches:
        assert [next(batches).index.item() for _ in range(5)] == [0, 4, 5, 6, 7]
        assert batches.num_unreadable == 4
        for _ in range(2):
            with pytest.raises(UserError) as caught:
                next(batches)
            assert caught.value.found == "5 of 6 images read so far, 5 of them 3 bytes: 4.jpg, 5.jpg, 6.jpg and 2 more"


@pytest.mark.parametrize("error", [UserError("4.jpg", expected="30 x 20 pixels"), ZeroDivisionError("a bug")])
@pytest.mark.parametrize("prefetch", [0, 3])
def test_an_error_is_raised_where_its_batch_is_due_and_ever_after(inline, error, prefetch):
    """All workers have ended before the first batch is asked for: the error is there from the start."""
    with closing(_pipeline(Memory(broken=error), [_job(1), _job(2), _job(4), _job(5)], prefetch=prefetch)) as batches:
        assert [next(batches).index.item() for _ in range(2)] == [1, 2]
        for _ in range(3):
            with pytest.raises(type(error), match=str(error)):
                next(batches)


@pytest.mark.parametrize(("prefetch", "num_workers", "ahead"), [(0, 1, 2), (3, 1, 4), (0, 3, 6)])
def test_work_is_started_ahead_of_the_batch_that_is_due(inline, prefetch, num_workers, ahead):
    """Two rows for each worker, and a batch for each place on the devices, both beyond the batch that is due."""

    def jobs() -> Iterator[Job]:
        for number in itertools.count():
            started.append(number)
            yield _job(1)

    started: list[int] = []
    with closing(_pipeline(Memory(), jobs(), prefetch=prefetch, num_workers=num_workers)) as batches:
        for step in range(1, 4):
            next(batches)
            assert len(started) == step + prefetch + ahead


class _Meeting(Memory):
    """Three threads each ask for an image; none continues before all have asked."""

    def __init__(self) -> None:
        super().__init__()
        self._calls, self._together = itertools.count(), threading.Barrier(3)

    def image(self, index: int) -> np.ndarray:
        if next(self._calls) < 3:
            self._together.wait()
        return super().image(index)


def test_workers_decode_at_the_same_time_and_end_with_close():
    others = _decoders()
    batches = _pipeline(_Meeting(), itertools.repeat(_job(1, 2, 5, 7)), num_workers=3)
    next(batches)
    assert len(_decoders() - others) == 3
    batches.close()
    batches.close()
    assert not _decoders() - others
    with pytest.raises(StopIteration):
        next(batches)


def test_nothing_is_left_running_at_the_end_of_the_jobs():
    others = _decoders()
    _all(_pipeline(Memory(), [_job(1)]))
    assert not _decoders() - others


def test_a_batch_lies_on_the_devices_row_after_row():
    devices = jax.local_devices()[:2]
    with closing(Pipeline(Memory(), data_config(), iter([_job(1, 2, 5, 7)]), 3, devices, 1.0)) as batches:
        batch = next(batches)
    assert batch.index.tolist() == [[1, 2], [5, 7]]
    for leaf in jax.tree.leaves(batch):
        assert [shard.device for shard in leaf.addressable_shards] == devices
