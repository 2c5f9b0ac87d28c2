import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lga_jax.data.batches.repeats import repeat_factors, report_repeats
from lga_jax.data.source import Record


def _record(labels: list[int], crowd: object = None) -> Record:
    boxes = np.tile(np.float32([0, 0, 1, 1]), (len(labels), 1))
    crowd = np.zeros(len(labels), bool) if crowd is None else np.array(crowd)
    return Record(0, 9, 9, boxes, np.array(labels, np.int32), crowd)


def test_factors_by_hand():
    """Class 0 is in 6 of 8 images, class 1 in 2, class 2 in 1, and once as a crowd."""
    records = [_record([0])] * 5 + [_record([0, 1, 1]), _record([1, 2, 2]), _record([2], [True])]
    expected = [1, 1, 1, 1, 1, np.sqrt(0.5 * 8 / 2), np.sqrt(0.5 * 8 / 1), 1]
    np.testing.assert_allclose(repeat_factors(records, 0.5), expected)
    np.testing.assert_array_equal(repeat_factors(records, 0.0), 1)
    np.testing.assert_array_equal(repeat_factors([_record([]), _record([])], 0.5), 1)


def test_a_share_is_one_of_what_an_epoch_sees():
    records = [_record([0])._replace(weight=6.0), _record([1]), _record([0])]
    np.testing.assert_allclose(repeat_factors(records, 0.5), [1, 2, 1])


@given(st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=30), st.floats(0, 1))
def test_factors_equal_the_definition(images, threshold):
    share = {c: sum(c in labels for labels in images) / len(images) for labels in images for c in labels}
    expected = [max([1.0, *(np.sqrt(threshold / share[c]) for c in labels)]) for labels in images]
    np.testing.assert_allclose(repeat_factors([_record(labels) for labels in images], threshold), expected)


def test_the_report_has_the_numbers():
    assert report_repeats(np.ones(4), 0.0) == []
    (line,) = report_repeats(np.array([1, 1, 1.5, 3]), 0.001)
    assert line == (
        "2 of 4 images have a class found in a share below 0.001 of the images (data.repeat_threshold): an epoch shows"
        " them 2.25 times as often on average, at most 3.0 times"
    )
