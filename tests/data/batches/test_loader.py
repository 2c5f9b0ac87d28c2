import itertools
import json
from collections.abc import Iterable
from contextlib import closing

import jax
import numpy as np
import pytest

from lga_jax.data.batches.fill import MASK_SIDE
from lga_jax.data.batches.loader import EvalLoader, TrainLoader, check_position
from lga_jax.data.challenge.source import Challenge
from lga_jax.data.source import UnreadableImageError
from lga_jax.errors import UserError
from lga_jax.structs import Batch
from tests.data.batches.memory import Memory, data_config
from tests.faults import refused


def _train(
    num_steps: int,
    *,
    start: int = 0,
    devices: int = 2,
    process: tuple[int, int] = (0, 1),
    batch_size: int = 4,
    **values: object,
) -> list[Batch]:
    loader = TrainLoader(Memory(), data_config(**values), 3, batch_size, start, jax.local_devices()[:devices], *process)
    with closing(loader):
        return [jax.device_get(next(loader)) for _ in range(num_steps)]


def _evaluate(
    source: Memory, batch_size: int, devices: int = 1, process: tuple[int, int] = (0, 1), **values: object
) -> list[Batch]:
    with closing(
        EvalLoader(source, data_config(**values), batch_size, jax.local_devices()[:devices], *process)
    ) as loader:
        return [jax.device_get(batch) for batch in loader]


def _assert_equal(first: list[Batch], second: list[Batch]) -> None:
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_batches_lie_on_the_devices():
    devices = jax.local_devices()[:2]
    with closing(TrainLoader(Memory(), data_config(), 0, 6, 0, devices)) as loader:
        batch = next(loader)
    assert batch.images.shape in {(2, 3, 32, 48, 3), (2, 3, 48, 32, 3)}
    assert batch.images.dtype == np.uint8
    assert batch.targets.boxes.shape == (2, 3, 3, 4)  # the fullest image has three boxes
    for leaf in jax.tree.leaves(batch):
        assert [shard.device for shard in leaf.addressable_shards] == devices
        assert [shard.data.shape[0] for shard in leaf.addressable_shards] == [1, 1]


def test_empty_batches_are_like_all_that_come():
    def kinds(batches: Iterable[Batch]) -> set:
        return {tuple((leaf.shape, leaf.dtype, leaf.sharding) for leaf in jax.tree.leaves(batch)) for batch in batches}

    config, devices = data_config(buckets=((32, 48), (9, 99), (48, 32))), jax.local_devices()[:2]
    for loader in (TrainLoader(Memory(), config, 0, 4, 0, devices), EvalLoader(Memory(), config, 4, devices)):
        with closing(loader):
            assert len(list(loader.empty_batches())) == 2  # no image is in the third bucket
            assert kinds(loader.empty_batches()) == kinds(itertools.islice(loader, 4))
    with closing(TrainLoader(Memory(), config, 0, 16, 0, devices, 1, 2)) as loader:
        assert {batch.images.shape[:2] for batch in loader.empty_batches()} == {next(loader).images.shape[:2]}


def test_a_batch_holds_the_images_it_says():
    source = Memory()
    for batch in _train(10, devices=1, flip_probability=0.0, short_edges=(20,)):
        for row, index in enumerate(batch.index[0]):
            height, width = batch.image_hw[0, row].astype(int)
            np.testing.assert_array_equal(batch.images[0, row, :height, :width], source.image(index))
            boxes = batch.targets.boxes[0, row][batch.targets.valid[0, row]]
            np.testing.assert_array_equal(boxes, source.records[index].boxes_original)


VIEWS = pytest.mark.parametrize(
    "values",
    [
        {},
        {"scale_jitter": (0.1, 2.0), "resize": "antialias"},
        {"photometric": 0.5, "blur": 0.5, "jpeg": 0.5},
        {"object_crop": 0.5, "object_crop_sides": (8, 16), "quarter_turns": 0.75},
        {"copy_paste": 0.5},
    ],
    ids=["edges", "jitter", "pixels", "parts", "pasting"],
)


@VIEWS
def test_one_worker_gives_what_three_give(values):
    _assert_equal(_train(12, num_workers=1, prefetch=0, **values), _train(12, num_workers=3, prefetch=3, **values))


@VIEWS
def test_a_run_that_starts_later_sees_what_an_undisturbed_one_saw(values):
    whole = _train(14, **values)
    for start in (1, 6, 13):
        _assert_equal(whole[start:], _train(14 - start, start=start, **values))


_TRANSFORMS = """
import numpy as np

def noisy(image, boxes, labels, rng):
    image = np.clip(image + rng.integers(-9, 9, image.shape), 0, 255).astype(np.uint8)
    kept = rng.random(len(boxes)) < 0.7
    return image[:, ::-1].copy(), boxes[kept] * (0.5, 1, 0.5, 1), labels[kept]

def careless(image, boxes, labels, rng):
    return np.random.randint(0, 255, image.shape).astype(np.uint8), boxes, labels

def empty(image, boxes, labels, rng):
    return image, [], []

def wide(image, boxes, labels, rng):
    return image, boxes * 2, labels
"""


@pytest.fixture
def transforms(tmp_path):
    (tmp_path / "own.py").write_text(_TRANSFORMS)
    return f"{tmp_path / 'own.py'}:"


def test_a_transform_of_the_users_own_is_a_function_of_seed_and_step(transforms):
    own = {"transform": f"{transforms}noisy"}
    whole = _train(8, num_workers=1, prefetch=0, **own)
    _assert_equal(whole, _train(8, num_workers=3, prefetch=3, **own))
    _assert_equal(whole[3:], _train(5, start=3, **own))
    plain = _train(8)
    assert all((one.images != other.images).any() for one, other in zip(whole, plain, strict=True))
    _assert_equal([b.index for b in whole], [b.index for b in plain])
    counts = [sum(batch.targets.valid.sum() for batch in batches) for batches in (whole, plain)]
    assert 0.5 < counts[0] / counts[1] < 0.9
    _assert_equal(_evaluate(Memory(), 4), _evaluate(Memory(), 4, **own))


def test_a_transform_that_removes_boxes_is_reported(transforms):
    with closing(
        TrainLoader(Memory(), data_config(transform=f"{transforms}noisy"), 3, 8, 0, jax.local_devices()[:1])
    ) as loader:
        assert sum("data.transform: " in line for line in loader.report) == 1


@pytest.mark.parametrize(
    ("name", "found"),
    [("careless", "two different"), ("empty", "8 images"), ("wide", r"\("), ("absent", "no such name")],
)
def test_a_transform_that_is_none_is_refused_before_the_first_batch(transforms, name, found):
    with refused("data.transform", found=found):
        TrainLoader(Memory(), data_config(transform=transforms + name), 3, 8, 0, jax.local_devices()[:1])


def test_masks_of_objects_and_a_transform_do_not_fit_together(transforms):
    with refused("data.transform"):
        data = data_config(transform=f"{transforms}noisy")
        TrainLoader(Memory(), data, 3, 8, 0, jax.local_devices()[:1], object_masks=True)


def test_jitter_shows_images_in_all_sizes_and_parts():
    batches = _train(60, devices=1, scale_jitter=(0.1, 2.0), buckets=((48, 48),))
    hw = np.concatenate([batch.image_hw[0] for batch in batches])
    assert hw.min() < 6
    assert (hw.max(axis=1) == 48).mean() > 0.4
    assert (hw == 48).all(axis=1).any()  # no image is square: both sides are cropped
    for batch in batches:
        boxes, valid = batch.targets.boxes[0], batch.targets.valid[0]
        assert (boxes[..., 2:] > boxes[..., :2]).all(axis=-1)[valid].all()
        assert (boxes.max(axis=1) <= batch.image_hw[0][:, [1, 0, 1, 0]]).all()
    assert any(
        (batch.targets.valid[0].sum(1) < np.array(batch.index[0]) % 4).any() for batch in batches
    )  # out of sight


def test_the_kernel_reaches_the_pixels():
    plain, wide = (_train(1, short_edges=(10,), resize=kernel)[0].images for kernel in ("bilinear", "antialias"))
    assert (plain != wide).any()


def test_colours_change_pixels_and_nothing_else():
    plain, coloured = _train(3), _train(3, photometric=1.0)
    _assert_equal([b._replace(images=b.image_hw) for b in plain], [b._replace(images=b.image_hw) for b in coloured])
    assert all((one.images != other.images).mean() > 0.4 for one, other in zip(plain, coloured, strict=True))
    _assert_equal(_evaluate(Memory(), 4), _evaluate(Memory(), 4, photometric=1.0))


def test_steps_and_seeds_differ():
    first, again = (np.concatenate([b.images.ravel() for b in _train(4, start=start)]) for start in (0, 4))
    assert (first != again).any()


def test_the_bucket_is_chosen_for_the_largest_short_edge():
    batches = _train(8, buckets=((24, 48), (48, 24), (32, 48), (48, 32)))
    assert {int(hw.min()) for batch in batches for hw in batch.image_hw.reshape(-1, 2)} == {24, 32}


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_global_batch(count):
    parts = [_train(9, devices=1, process=(index, count), batch_size=8) for index in range(count)]
    joined = [jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *step) for step in zip(*parts, strict=True)]
    _assert_equal(joined, _train(9, devices=1, batch_size=8))


def test_another_number_of_devices_changes_the_layout_only():
    flat = [jax.tree.map(lambda leaf: leaf.reshape(1, 4, *leaf.shape[2:]), batch) for batch in _train(5, devices=4)]
    _assert_equal(flat, _train(5, devices=1))


def test_position_survives_json_and_counts_what_was_handed_out():
    with closing(TrainLoader(Memory(), data_config(), 3, 4, 5, jax.local_devices()[:1])) as loader:
        next(loader)
        next(loader)
        saved = json.loads(json.dumps(loader.position()))
    assert saved == {"step": 7, "seed": 3, "batch_size": 4, "num_images": 13, "fingerprint": "digest"}
    with closing(TrainLoader(Memory(), data_config(), 3, 4, 7, jax.local_devices()[:1])) as loader:
        check_position(saved, loader.position())


@pytest.mark.parametrize(
    ("change", "subject", "found"),
    [
        ({"step": 9}, "step of the data", "0"),
        ({"seed": 4}, "seed", "3"),
        ({"batch_size": 8}, "batch_size", "4"),
        ({"num_images": 12}, "number of training images", "13"),
        ({"fingerprint": "other"}, r"training annotations \(digest\)", "'digest'"),
    ],
)
def test_a_checkpoint_of_other_data_is_refused(change, subject, found):
    current = {"step": 0, "seed": 3, "batch_size": 4, "num_images": 13, "fingerprint": "digest"}
    with refused(f"^{subject}$", f"^{found}$") as caught:
        check_position({**current, **change}, current)
    assert caught.value.expected.startswith(repr(*change.values()))


@pytest.mark.parametrize(
    ("batch_size", "count", "nearest"),
    [
        (10, 1, "8 or 12"),
        (10, 2, "8 or 16"),
        (3, 1, "4"),
        (0, 1, "4"),
    ],
)
def test_a_batch_that_the_devices_do_not_divide_is_refused(batch_size, count, nearest):
    for make in (
        lambda: TrainLoader(Memory(), data_config(), 0, batch_size, 0, jax.local_devices(), 0, count),
        lambda: EvalLoader(Memory(), data_config(), batch_size, jax.local_devices(), 0, count),
    ):
        with refused("^batch_size$", f"^{batch_size}$") as caught:
            make()
    assert caught.value.remedy == f"set it to {nearest}"


def test_the_report_tells_what_repeats_and_what_finds_no_slot():
    with closing(TrainLoader(Memory(), data_config(max_boxes=2), 0, 4, 0, jax.local_devices()[:1])) as loader:
        size, padding, repeated, overflow = loader.report
        assert size == "an epoch is 4 steps; 2 ground-truth slots per image"
        assert padding == "0.0% of the pixels of an epoch are padding if every image has its largest size"
        assert repeated == "3 of 16 places in an epoch repeat an image to fill the last batch of each bucket"
        assert overflow.startswith("3 boxes of 3 images are left out of training")
        assert next(loader).targets.valid.shape == (1, 4, 2)


def test_the_report_names_buckets_that_an_epoch_fills_with_the_same_few_images():
    with closing(TrainLoader(Memory(), data_config(), 0, 8, 0, jax.local_devices()[:1])) as loader:
        small = loader.report[3]
        assert small.startswith(
            "buckets with fewer images than a batch (8) repeat images: 48x32 has 5, each up to 2 times"
        )
        assert "32x48" not in small  # its 8 images are one batch
        drawn = np.concatenate([jax.device_get(next(loader)).index.ravel() for _ in range(loader.steps_per_epoch)])
    assert np.bincount(drawn).max() == 2


def test_an_epoch_sees_an_image_as_often_as_its_record_says():
    source = Memory()
    source.records[1] = source.records[1]._replace(weight=5.0)
    with closing(TrainLoader(source, data_config(), 0, 4, 0, jax.local_devices()[:1])) as loader:
        drawn = np.concatenate([jax.device_get(next(loader)).index.ravel() for _ in range(loader.steps_per_epoch)])
    assert loader.steps_per_epoch == 5  # 12 of one shape and 5 of the other in batches of 4
    assert np.bincount(drawn)[1] == 5


@pytest.mark.parametrize(("probability", "slots"), [(0.0, 3), (0.5, 6)])
def test_slots_are_enough_for_pasted_objects(probability, slots):
    config = data_config(copy_paste=probability)
    with closing(TrainLoader(Memory(), config, 0, 4, 0, jax.local_devices()[:1])) as loader:
        assert {batch.targets.valid.shape[-1] for batch in loader.empty_batches()} == {slots}


def test_images_of_rare_classes_are_repeated():
    source = Memory()
    source.class_names = ("thing", "rarity")
    record = source.records[3]  # of the class that one image of 13 shows: sqrt(0.9 * 13) = 3.4 times
    boxes = np.array([[1, 2, 9, 9]], np.float32)
    source.records[3] = record._replace(boxes_original=boxes, labels=np.array([1], np.int32), crowd=np.array([False]))
    with closing(TrainLoader(source, data_config(repeat_threshold=0.9), 0, 4, 0, jax.local_devices()[:1])) as loader:
        assert loader.report[2].startswith("9 of 13 images ")
        assert loader.report[2].endswith("shows them 1.46 times as often on average, at most 3.4 times")
        drawn = np.concatenate([jax.device_get(next(loader)).index.ravel() for _ in range(loader.steps_per_epoch)])
    assert np.bincount(drawn).argmax() == 3


def test_an_unreadable_image_is_counted_once_and_trained_on_without_boxes():
    source = Memory(broken=UnreadableImageError("4.jpg", expected="an image", found="3 bytes"))
    with closing(TrainLoader(source, data_config(), 0, 4, 0, jax.local_devices()[:1])) as loader:
        batches = [jax.device_get(next(loader)) for _ in range(3 * loader.steps_per_epoch)]
    assert loader.num_unreadable == 1
    index, valid = (np.concatenate([leaf(batch) for batch in batches], axis=1)[0] for leaf in (_index, _valid))
    assert (index == 4).sum() >= 3
    assert not valid[index == 4].any()
    assert valid[index == 5].sum() == (index == 5).sum()


def test_an_error_of_the_source_leaves_the_position_at_the_step_that_was_due():
    order = [batch.index.ravel() for batch in _train(4, devices=1)]
    due = next(step for step, index in enumerate(order) if 4 in index)
    assert due > 0
    source = Memory(broken=UserError("4.jpg", expected="30 x 20 pixels"))
    with closing(TrainLoader(source, data_config(), 3, 4, 0, jax.local_devices()[:1])) as loader:
        for step in range(due):
            np.testing.assert_array_equal(jax.device_get(next(loader)).index[0], order[step])
        for _ in range(2):
            with pytest.raises(UserError, match="30 x 20 pixels"):
                next(loader)
            assert loader.position()["step"] == due


def _index(batch: Batch) -> np.ndarray:
    return batch.index


def _valid(batch: Batch) -> np.ndarray:
    return batch.targets.valid


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [6, 18])
def test_evaluation_sees_every_image_once_over_all_processes(count, batch_size):
    parts = [_evaluate(Memory(), batch_size, process=(index, count)) for index in range(count)]
    shapes = [[batch.images.shape for batch in part] for part in parts]
    assert all(shape == shapes[0] for shape in shapes)
    seen = np.concatenate([batch.index.ravel() for part in parts for batch in part])
    np.testing.assert_array_equal(np.sort(seen[seen >= 0]), np.arange(13))


def test_evaluation_resizes_to_its_own_edge_and_has_no_targets():
    batches = _evaluate(Memory(), batch_size=4, devices=2)
    for batch in batches:
        real = batch.index >= 0
        np.testing.assert_array_equal(batch.image_hw[real].min(axis=-1), 32)
        np.testing.assert_allclose(batch.scale_hw[real], 1.6)
        assert batch.targets.boxes.shape == (2, 2, 0, 4)
        assert not batch.images[~real].any()


def test_evaluation_has_its_own_buckets_if_given_and_no_jitter():
    values = {"scale_jitter": (0.1, 2.0), "buckets": ((16, 16),), "resize": "antialias"}
    with_own = _evaluate(Memory(), 4, eval_buckets=((32, 48), (48, 32)), **values)
    assert {batch.images.shape[2:4] for batch in with_own} == {(32, 48), (48, 32)}
    _assert_equal(with_own, _evaluate(Memory(), 4, resize="antialias"))
    assert {batch.images.shape[2:4] for batch in _evaluate(Memory(), 4, **values)} == {(16, 16)}


def test_masks_come_with_pasted_objects_too():
    data = data_config(short_edges=(64,), buckets=((64, 64),), copy_paste=1.0)
    source = Challenge(6, image_hw=(64, 64))
    with closing(TrainLoader(source, data, 0, 2, 0, jax.local_devices()[:1], object_masks=True)) as loader:
        targets = jax.device_get(next(loader)).targets
    with closing(TrainLoader(source, data, 0, 2, 0, jax.local_devices()[:1])) as loader:
        assert jax.device_get(next(loader)).targets.masks is None
    assert targets.masks.shape == (*targets.valid.shape, MASK_SIDE, MASK_SIDE)
    np.testing.assert_array_equal(targets.has_mask, targets.valid)
    shares = targets.masks[targets.valid].mean(axis=(1, 2)) / 255
    assert ((shares > 0.1) & (shares < 1)).all()
