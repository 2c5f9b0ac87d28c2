from contextlib import closing

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.coco import get_config
from lga_jax.data.augment.donor import Donor
from lga_jax.data.augment.view import View
from lga_jax.data.batches.fill import empty_batch, write_image
from lga_jax.data.batches.loader import TrainLoader
from lga_jax.data.batches.paste import paste
from lga_jax.data.source import Record, UnreadableImageError
from lga_jax.structs import Batch

HW = (48, 64)
PLAIN = View(HW, (0, 0), False)
# Objects of whole pixels, each in a cell of 16 x 16 of its own.
APART = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 1), *[st.integers(0, 5)] * 2, *[st.integers(1, 11)] * 2),
    min_size=1,
    max_size=5,
    unique_by=lambda place: place[:2],
).map(lambda places: [(16 * column + x, 16 * row + y, w, h) for column, row, x, y, w, h in places])


def _record(boxes: list, first_label: int, crowd: object = None) -> Record:
    """xywh; labels are counted from `first_label`."""
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in boxes], np.float32).reshape(-1, 4)
    labels = np.arange(first_label, first_label + len(boxes), dtype=np.int32)
    return Record(0, *HW, boxes, labels, np.zeros(len(boxes), bool) if crowd is None else np.array(crowd))


def _picture(record: Record) -> np.ndarray:
    """Every object in the colour 10 + its label, later ones over earlier ones, on 200 + the first label."""
    image = np.full((*HW, 3), 200 + record.labels[0], np.uint8)
    for (x1, y1, x2, y2), label in zip(record.boxes_original, record.labels, strict=True):
        image[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = 10 + label
    return image


def _pasted(below: Record, above: Record, pasted: list[bool], view: View = PLAIN, slots: int = 8) -> Batch:
    batch = empty_batch(1, HW, slots)
    write_image(batch, 0, 0, below, _picture(below), PLAIN, "bilinear")
    paste(batch, 0, above, _picture(above), Donor(1, view, np.array(pasted)), "bilinear")
    return batch


def _targets(batch: Batch) -> dict[int, list[float]]:
    valid = batch.targets.valid[0]
    labels, boxes = batch.targets.labels[0], batch.targets.boxes[0]
    assert not labels[~valid].any()
    assert not boxes[~valid].any()
    return {int(label): box.tolist() for label, box in zip(labels[valid], boxes[valid], strict=True)}


def test_an_object_comes_with_its_box_and_its_pixels_alone():
    below, above = _record([(0, 0, 10, 10)], 0), _record([(30, 20, 10.5, 8), (50, 0, 5, 5)], 3)
    batch = _pasted(below, above, [True, False])
    assert _targets(batch) == {0: [0, 0, 10, 10], 3: [30, 20, 40.5, 28]}
    expected = _picture(below)
    expected[20:28, 30:41] = 13
    np.testing.assert_array_equal(batch.images[0], expected)


def test_what_is_covered_shrinks_and_goes():
    """Of three objects below, one loses its left quarter, one more than half of it, one its middle."""
    below = _record([(0, 0, 20, 10), (0, 20, 20, 10), (40, 0, 20, 20)], 0)
    above = _record([(0, 0, 5, 10), (0, 20, 11, 10), (45, 5, 5, 5)], 5)
    targets = _targets(_pasted(below, above, [True] * 3))
    assert targets.pop(0) == [5, 0, 20, 10]
    assert targets.pop(2) == [40, 0, 60, 20]
    assert list(targets) == [5, 6, 7]


def test_a_neighbour_within_the_rectangle_has_its_box_and_a_crowd_has_none():
    boxes = [(10, 10, 20, 20), (12, 12, 10, 10), (25, 10, 10, 10), (11, 11, 5, 5)]
    above = _record(boxes, 3, [False, False, False, True])
    targets = _targets(_pasted(_record([(50, 40, 5, 5)], 0), above, [True, False, False, False]))
    assert targets.keys() == {0, 3, 4, 5}
    assert targets[5] == [25, 10, 30, 20]  # half of it came along


def test_nothing_is_pasted_into_the_padding():
    batch = empty_batch(1, HW, 4)
    below, above = _record([(0, 0, 10, 10)], 0), _record([(20, 10, 30, 30), (40, 30, 10, 10)], 3)
    write_image(batch, 0, 0, below, _picture(below), View((24, 32), (0, 0), False), "bilinear")
    paste(batch, 0, above, _picture(above), Donor(1, PLAIN, np.array([True, True])), "bilinear")
    assert _targets(batch)[3] == [20, 10, 32, 24]
    assert 4 not in _targets(batch)
    assert not batch.images[0, 24:].any()
    assert not batch.images[0, :, 32:].any()


@given(APART, APART, st.lists(st.booleans(), min_size=5, max_size=5), st.booleans())
def test_what_is_seen_has_a_box_and_what_has_a_box_is_seen(below, above, drawn, flip):
    """Every object is looked for by its colour: its box is what is seen of it, and it has one if that is half of it."""
    below, above = _record(below, 0), _record([(x + 5, y + 3, w, h) for x, y, w, h in above], 10)
    batch = _pasted(below, above, drawn[: len(above.labels)], View(HW, (0, 0), flip), slots=10)
    targets = _targets(batch)
    for record in (below, above):
        for (x1, y1, x2, y2), label in zip(record.boxes_original, record.labels.tolist(), strict=True):
            seen = (batch.images[0] == 10 + label).all(axis=-1)
            if 2 * seen.sum() < (x2 - x1) * (y2 - y1):
                assert label not in targets
                continue
            rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
            assert targets[label] == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


class _Objects:
    """Image i has an object of class i; image 1 cannot be decoded."""

    class_names, report, fingerprint = tuple("abcdef"), [], ""

    def __init__(self) -> None:
        self.records = [_record([(10 * i, 5 * i, 9, 9)], i) for i in range(6)]

    def image(self, index: int) -> np.ndarray:
        if index == 1:
            raise UnreadableImageError("1.png", expected="an image")
        return _picture(self.records[index])

    def truth(self) -> dict:
        raise NotImplementedError


def test_boxes_that_find_no_slot_for_pasted_ones_are_counted():
    config = get_config().data
    config.update(short_edges=(48,), long_edge=64, buckets=(HW,), flip_probability=0.0, num_workers=2)
    config.update(copy_paste=1.0, prefetch=0)  # what is counted was handed out

    def num_boxes(max_boxes: int) -> tuple[int, int]:
        config.max_boxes = max_boxes
        with closing(TrainLoader(_Objects(), config, 0, 6, 0, jax.local_devices()[:1])) as loader:
            batches = [jax.device_get(next(loader)) for _ in range(8)]
            return sum(int(batch.targets.valid.sum()) for batch in batches), loader.num_without_slot

    (all_boxes, none_lost), (kept, lost) = num_boxes(2), num_boxes(1)
    assert none_lost == 0
    assert lost == all_boxes - kept > 0


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_a_loader_pastes(probability):
    config = get_config().data
    config.update(short_edges=(48,), long_edge=64, buckets=(HW,), flip_probability=0.0, num_workers=2)
    config.copy_paste = probability
    with closing(TrainLoader(_Objects(), config, 0, 6, 0, jax.local_devices()[:1])) as loader:
        batches = [jax.device_get(next(loader)) for _ in range(8)]
    strangers = 0
    for batch in batches:
        for row, index in enumerate(batch.index[0]):
            labels = batch.targets.labels[0, row][batch.targets.valid[0, row]]
            strangers += len(set(labels.tolist()) - {index})
            for label in labels:
                assert (batch.images[0, row] == 10 + label).all(axis=-1).sum() >= 40
            assert 1 not in labels
    assert strangers > 10 if probability else strangers == 0
