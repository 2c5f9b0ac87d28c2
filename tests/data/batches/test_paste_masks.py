"""Copy-paste by masks: what is seen of an object is its mask."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lga_jax.data.augment.donor import Donor
from lga_jax.data.augment.view import View
from lga_jax.data.batches.fill import empty_batch, write_image
from lga_jax.data.batches.paste_masks import Below, paste_masks
from lga_jax.data.object_masks import Bitmap
from lga_jax.data.source import Record
from lga_jax.structs import Batch

HW, SIDE = (48, 64), 48
PLAIN = View(HW, (0, 0), False)


def _disc(x: int, y: int, radius: int) -> Bitmap:
    """The pixels of a disc in its square."""
    distance = np.hypot(*(np.mgrid[: 2 * radius, : 2 * radius] + 0.5 - radius))
    return Bitmap(distance <= radius, (x - radius, y - radius))


def _record(masks: list[Bitmap | None], boxes: list, first_label: int) -> Record:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.arange(first_label, first_label + len(boxes), dtype=np.int32)
    return Record(0, *HW, boxes, labels, np.zeros(len(boxes), bool))


def _discs(places: list[tuple[int, int, int]], first_label: int) -> tuple[Record, list[Bitmap]]:
    masks = [_disc(*place) for place in places]
    return _record(masks, [[x - r, y - r, x + r, y + r] for x, y, r in places], first_label), masks


def _picture(record: Record, masks: list[Bitmap | None]) -> np.ndarray:
    """Every object in the colour 10 + its label, on 200 + the first label."""
    image = np.full((*HW, 3), 200 + record.labels[0], np.uint8)
    for mask, label, box in zip(masks, record.labels, record.boxes_original.astype(int), strict=True):
        if mask is None:
            image[box[1] : box[3], box[0] : box[2]] = 10 + label
        else:
            (x, y), (height, width) = mask.origin, mask.pixels.shape
            image[y : y + height, x : x + width][mask.pixels] = 10 + label
    return image


def _pasted(below, above, pasted: list[bool], view: View = PLAIN, readable: bool = True, slots: int = 8) -> Batch:
    batch = empty_batch(1, HW, slots, SIDE)
    image = _picture(*below) if readable else None
    write_image(batch, 0, 0, below[0], image, PLAIN, "bilinear", below[1])
    under = Below(below[0], PLAIN, below[1]) if readable else None
    paste_masks(batch, 0, under, *above, _picture(*above), Donor(1, view, np.array(pasted)), "bilinear")
    return batch


def _targets(batch: Batch) -> dict[int, tuple[list[float], np.ndarray, bool]]:
    targets = batch.targets
    leaves = (targets.labels, targets.boxes, targets.masks, targets.has_mask)
    objects = zip(*(leaf[0][targets.valid[0]] for leaf in leaves), strict=True)
    return {int(label): (box.tolist(), masks, bool(has)) for label, box, masks, has in objects}


def test_an_object_comes_without_the_corners_of_its_box():
    below, above = _discs([(10, 10, 6)], 0), _discs([(40, 24, 10), (10, 38, 5)], 3)
    batch = _pasted(below, above, [True, False])
    targets = _targets(batch)
    assert {label: box for label, (box, _, _) in targets.items()} == {0: [4, 4, 16, 16], 3: [30, 14, 50, 34]}
    expected = _picture(*below)
    expected[14:34, 30:50][above[1][0].pixels] = 13
    np.testing.assert_array_equal(batch.images[0], expected)
    assert targets[3][2]
    assert not targets[3][1][0, 0]  # a corner of the box
    assert targets[3][1][24, 24] == 255


def test_a_hidden_object_loses_pixels_its_box_and_half_hidden_its_place():
    below = _discs([(20, 20, 8), (50, 20, 8)], 0)
    above = _discs([(10, 20, 8), (48, 20, 8)], 5)
    targets = _targets(_pasted(below, above, [True, True]))
    assert targets.keys() == {0, 5, 6}
    box, cells, has = targets[0]
    seen = below[1][0].pixels.copy()
    seen[:, :6] &= ~above[1][0].pixels[:, 10:]
    columns, rows = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
    assert box == [12 + columns[0], 12 + rows[0], 13 + columns[-1], 13 + rows[-1]]
    assert has
    assert not cells[24, 0]  # the pasted disc has bitten into its left side
    assert abs(cells.mean() / 255 - seen.sum() / ((box[2] - box[0]) * (box[3] - box[1]))) < 0.02


def test_an_object_in_the_corner_of_a_pasted_box_is_not_touched():
    below, above = _discs([(11, 11, 2)], 0), _discs([(20, 20, 11)], 3)  # apart, although its box is covered
    before = empty_batch(1, HW, 8, SIDE)
    write_image(before, 0, 0, below[0], _picture(*below), PLAIN, "bilinear", below[1])
    targets = _targets(_pasted(below, above, [True]))
    assert targets[0][0] == [9, 9, 13, 13]
    np.testing.assert_array_equal(targets[0][1], before.targets.masks[0, 0])


def test_without_a_mask_the_box_is_pasted_and_has_no_mask():
    boxes = [[30, 10, 40, 20]]
    above = _record([None], boxes, 3), [None]
    batch = _pasted(_discs([(10, 10, 6)], 0), above, [True])
    box, cells, has = _targets(batch)[3]
    assert (box, has) == ([30, 10, 40, 20], False)
    assert not cells.any()
    assert (batch.images[0, 10:20, 30:40] == 13).all()


def test_an_unreadable_image_below_has_no_objects():
    targets = _targets(_pasted(_discs([(10, 10, 6)], 0), _discs([(40, 24, 10)], 3), [True], readable=False))
    assert targets.keys() == {3}


DISCS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(2, 8)),
    min_size=1,
    max_size=5,
    unique_by=lambda d: d[:2],
).map(lambda discs: [(8 + 16 * column, 8 + 16 * row, radius) for column, row, radius in discs])


@settings(max_examples=40)
@given(DISCS, DISCS, st.lists(st.booleans(), min_size=5, max_size=5), st.booleans())
def test_the_seen_pixels_are_the_mask(below, above, drawn, flip):
    """Every object is looked for by its colour."""
    below, above = _discs(below, 0), _discs([(x + 5, y + 3, radius) for x, y, radius in above], 10)
    batch = _pasted(below, above, drawn[: len(above[1])], View(HW, (0, 0), flip), slots=10)
    targets = _targets(batch)
    for _, masks, first in ((*below, 0), (*above, 10)):
        for label, mask in enumerate(masks, start=first):
            seen = (batch.images[0] == 10 + label).all(axis=-1)
            if label not in targets:
                assert 2 * seen.sum() <= mask.pixels.sum()
                continue
            rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
            box, cells, has = targets[label]
            assert has
            if seen.sum() < mask.pixels.sum():
                assert box == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            x1, y1, x2, y2 = map(int, box)
            np.testing.assert_allclose(cells.mean() / 255, seen[y1:y2, x1:x2].mean(), atol=0.03)
