import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lga_jax.data.augment.geometry import resize_hw
from lga_jax.data.batches.plan import (
    BatchPlan,
    assign_buckets,
    choose_bucket,
    num_slots,
    padded_share,
    plan_evaluation,
    report_overflow,
)
from lga_jax.data.source import Record

COCO = ((800, 1344), (1344, 800))


def _record(hw: tuple[int, int], boxes: object = (), crowd: object = None) -> Record:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    crowd = np.zeros(len(boxes), bool) if crowd is None else np.array(crowd)
    return Record(0, *hw, boxes, np.arange(len(boxes), dtype=np.int32), crowd)


@pytest.mark.parametrize(
    ("hw", "buckets", "expected"),
    [
        ((800, 1067), COCO, 0),
        ((1067, 800), COCO, 1),
        ((800, 800), COCO, 0),  # equal: the first
        ((800, 800), ((1344, 1344), (800, 1344), (832, 832)), 2),  # the tightest of three that hold it
        ((900, 1000), ((800, 800), (800, 1000), (700, 1000)), 1),  # held by none: where it stays largest
        ((2000, 1000), ((800, 800), (800, 400)), 1),  # of equally large ones the tightest
    ],
)
def test_choose_bucket_by_hand(hw, buckets, expected):
    assert choose_bucket(hw, buckets) == expected


@given(st.lists(st.tuples(st.integers(20, 900), st.integers(20, 900)), min_size=1, max_size=20))
def test_an_image_fits_its_bucket_at_every_short_edge(sizes):
    records = [_record(hw) for hw in sizes]
    buckets = assign_buckets(records, COCO, lambda hw: resize_hw(hw, 800, 1333, "nearest"))
    for hw, bucket in zip(sizes, buckets, strict=True):
        for short_edge in (640, 672, 704, 736, 768, 800):
            resized = resize_hw(hw, short_edge, 1333, "nearest")
            assert resized[0] <= COCO[bucket][0]
            assert resized[1] <= COCO[bucket][1]


def test_the_padded_share_by_hand():
    records, buckets = [_record((40, 60)), _record((50, 50)), _record((40, 60))], ((40, 80), (60, 60))

    def share(weights: list[float]) -> float:
        return padded_share(records, buckets, lambda hw: hw, np.array([0, 1, 0]), np.array(weights, float))

    assert share([1, 1, 1]) == pytest.approx(1 - (2400 + 2500 + 2400) / (3200 + 3600 + 3200))
    assert share([3, 1, 0.5]) == pytest.approx(1 - (3.5 * 2400 + 2500) / (3.5 * 3200 + 3600))
    assert padded_share(records, buckets, lambda hw: (90, 90), np.zeros(3, int), np.ones(3)) == pytest.approx(0.5)


BUCKET_OF = np.array([0, 1, 0, 0, 2, 1, 0, 0, 1, 0, 1, 1, 0])  # 7, 5 and 1 images


def _plan(batch_size: int, seed: int, bucket_of: object = BUCKET_OF, weights: object = None) -> BatchPlan:
    weights = np.ones(len(bucket_of)) if weights is None else np.array(weights, float)
    return BatchPlan(np.array(bucket_of), weights, batch_size, seed)


def _seen(plan: BatchPlan, epoch: int, num_images: int) -> np.ndarray:
    steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
    return np.bincount(np.concatenate([plan.batch(step).index for step in steps]), minlength=num_images)


def test_an_epoch_visits_every_image_in_batches_of_one_bucket():
    plan = _plan(3, seed=0)
    assert plan.steps_per_epoch == 3 + 2 + 1
    for epoch in range(3):
        batches = [plan.batch(epoch * 6 + number) for number in range(6)]
        assert all((BUCKET_OF[index] == bucket).all() for bucket, index in batches)
        seen = _seen(plan, epoch, 13)
        assert seen.min() == 1
        assert seen[4] == 3  # the only one in its bucket fills a batch
        assert np.delete(seen, 4).max() <= 2


IMAGES = st.lists(st.tuples(st.sampled_from([0, 1, 3]), st.floats(0.01, 9)), min_size=1, max_size=40)


@given(IMAGES, st.integers(1, 9), st.integers(0, 99))
def test_an_epoch_sees_every_image_as_often_as_its_weight_says(images, batch_size, seed):
    """Never a whole time more or less than its share, which is its weight unless a last batch needs filling."""
    bucket_of, weights = map(np.array, zip(*images, strict=True))
    plan = _plan(batch_size, seed, bucket_of, weights)
    for bucket in set(bucket_of):
        here, wanted = plan.shares[bucket_of == bucket], weights[bucket_of == bucket]
        np.testing.assert_allclose(here / wanted, (here / wanted)[0])
        assert wanted.sum() - 1e-6 <= here.sum() < wanted.sum() + batch_size
    for epoch in (0, 7):
        seen = _seen(plan, epoch, len(images))
        assert seen.sum() == plan.steps_per_epoch * batch_size
        assert (np.abs(seen - plan.shares) < 1 + 1e-6).all()
        assert (seen >= np.floor(weights + 1e-6)).all()


@pytest.mark.parametrize("weight", [0.1, 0.3, 0.7, 1.1])
def test_rounding_of_weights_adds_no_batch(weight):
    plan = BatchPlan(np.zeros(160, np.int64), np.full(160, weight), 16, 0)
    assert plan.steps_per_epoch == round(10 * weight)
    assert BatchPlan(np.zeros(3, np.int64), np.full(3, 1e-12), 4, 0).steps_per_epoch == 1


def test_over_epochs_the_mean_is_the_share():
    weights = np.linspace(0.3, 2.4, 40)
    plan = _plan(4, 0, np.arange(40) % 2, weights)
    mean = np.mean([_seen(plan, epoch, 40) for epoch in range(400)], axis=0)
    np.testing.assert_allclose(mean, plan.shares, atol=0.1)  # 4 sigma of a coin thrown 400 times


def test_the_plan_is_a_function_of_seed_and_step():
    weights = np.linspace(0.5, 3, 13)
    plan = _plan(3, 5, weights=weights)
    forwards = [plan.batch(step) for step in range(20)]
    fresh = _plan(3, 5, weights=weights)
    for step in reversed(range(20)):
        assert fresh.batch(step).bucket == forwards[step].bucket
        np.testing.assert_array_equal(fresh.batch(step).index, forwards[step].index)


def test_epochs_and_seeds_differ_and_buckets_are_mixed():
    bucket_of = np.arange(600) % 2

    def epoch(seed: int, number: int) -> np.ndarray:
        plan = _plan(3, seed, bucket_of)
        return np.array([plan.batch(number * 200 + step).index for step in range(200)])

    assert (epoch(0, 0) != epoch(0, 1)).mean() > 0.9
    assert (epoch(0, 0) != epoch(1, 0)).mean() > 0.9
    assert 60 < np.count_nonzero(np.diff(bucket_of[epoch(0, 0)[:, 0]])) < 140  # as a fair coin changes sides


def test_images_meet_others_in_every_epoch():
    plan = BatchPlan(np.zeros(60, np.int64), np.ones(60), 6, seed=0)

    def companions(epoch: int) -> set[tuple[int, int]]:
        batches = [sorted(plan.batch(10 * epoch + step).index.tolist()) for step in range(10)]
        return {(a, b) for batch in batches for a, b in itertools.combinations(batch, 2)}

    assert len(companions(0) & companions(1)) < 40  # of 150 pairs; 13 are expected by chance


def test_the_order_and_the_views_are_drawn_from_streams_of_their_own():
    """One batch is an epoch: its order is no permutation that the views' random numbers give."""
    plan = BatchPlan(np.zeros(12, np.int64), np.ones(12), 12, seed=0)
    for epoch in range(20):
        order = plan.batch(epoch).index
        for step, position in ((0, epoch), (epoch, 0)):
            assert (order != plan.view_rng(step, position).permutation(12)).any()


@pytest.mark.parametrize("seed", [0, -1, 2**70])
def test_every_image_of_every_step_has_its_own_randomness(seed):
    plan = _plan(3, seed)
    drawn = [plan.view_rng(step, position).random(5) for step in range(20) for position in range(20)]
    assert len(np.unique(drawn)) == 20 * 20 * 5
    np.testing.assert_array_equal(plan.view_rng(3, 4).random(5), drawn[3 * 20 + 4])


def test_evaluation_sees_every_image_once_in_order():
    plan = plan_evaluation(BUCKET_OF, batch_size=4)
    assert [bucket for bucket, _ in plan] == [0, 0, 1, 1, 2]
    np.testing.assert_array_equal(
        [index for _, index in plan],
        [[0, 2, 3, 6], [7, 9, 12, -1], [1, 5, 8, 10], [11, -1, -1, -1], [4, -1, -1, -1]],
    )


def test_slots_follow_the_fullest_image_without_its_crowds():
    records = [_record((9, 9), [[0, 0, 1, 1]] * 3, [True, False, False]), _record((9, 9), [[0, 0, 1, 1]])]
    assert num_slots(records, None, pasting=False) == 2
    assert num_slots(records, None, pasting=True) == 4
    assert num_slots([_record((9, 9))], None, pasting=True) == 1
    assert num_slots(records, 7, pasting=True) == 7


def test_overflow_is_reported():
    records = [_record((9, 9), [[0, 0, 1, 1]] * count) for count in (1, 5, 3, 2)]
    assert report_overflow(records, 5) == []
    (line,) = report_overflow(records, 2)
    assert line.startswith(
        "4 boxes of 2 images are left out of training, because an image has 2 slots; the largest are kept"
    )
    assert line.endswith("(data.max_boxes = 5 or unset keeps all)")
