import numpy as np
import pytest

from lga_jax.suggest.statistics import measure
from tests.suggest.sets import Set


def test_a_set_in_numbers():
    found = measure(Set(num_images=3, hw=(480, 640), sides=(40, 120)))
    assert (found.num_images, found.short_side, found.most_objects) == (3, 480, 2)
    assert found.box_hw.tolist() == [[40, 40], [120, 120]] * 3
    assert found.class_images.tolist() == [3, 3]


def test_classes_count_alike_whatever_their_number_of_objects():
    source = Set(num_images=10, sides=(30, 90))
    rare = source.records[0]
    common = rare._replace(boxes_original=np.repeat(rare.boxes_original[1:], 9, axis=0), labels=np.ones(9, np.int32))
    source.records[1:] = [common._replace(crowd=np.zeros(9, bool))] * 9
    found = measure(source)
    assert found.object_side(0.1) == found.object_side(0.4) == 30  # one object in 83, half of the weight
    assert found.object_side(0.6) == pytest.approx(90)
    assert found.class_images.tolist() == [1, 10]


def test_crowds_do_not_count():
    source = Set(num_images=2, sides=(40, 120))
    source.records[0] = source.records[0]._replace(crowd=np.array([True, False]))
    found = measure(source)
    assert found.box_hw[:, 0].tolist() == [120, 40, 120] and found.class_images.tolist() == [1, 2]
