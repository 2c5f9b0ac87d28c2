"""The weights of the classes."""

import numpy as np
import pytest

from lga_jax.data.source import Record
from lga_jax.errors import UserError
from lga_jax.training.class_weights import class_weights


def record(labels, crowd=None):
    count = len(labels)
    crowd = np.zeros(count, bool) if crowd is None else crowd
    return Record(1, 8, 8, np.tile(np.float32([0, 0, 4, 4]), (count, 1)), np.array(labels), crowd)


def test_balanced_weights_give_every_class_the_same_total():
    records = [record([0, 0, 0]), record([1]), record([2, 2]), record([1, 1], np.array([True, True]))]
    weights = class_weights((), True, records, 4)
    counts = np.array([3, 1, 2, 0])
    np.testing.assert_allclose(weights[:3] * counts[:3], 2.0)
    assert weights[3] == 1.0  # no box
    assert np.sum(weights[:3] * counts[:3]) == counts.sum()


def test_given_weights_are_used():
    assert class_weights((2.0, 1.0), False, [], 2) == (2.0, 1.0)
    assert class_weights((), False, [], 2) == ()


def test_a_wrong_number_of_weights_is_refused():
    with pytest.raises(UserError) as raised:
        class_weights((2.0,), False, [], 2)
    assert (raised.value.subject, raised.value.found) == ("losses.class_weights", "1")
