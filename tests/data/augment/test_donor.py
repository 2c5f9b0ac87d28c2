import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.coco import get_config
from lga_jax.data.augment.donor import draw_donor
from lga_jax.data.source import Record

HW = (48, 64)


def _record(num_boxes: int, crowd: object = None) -> Record:
    boxes = np.tile(np.array([0, 0, 5, 5], np.float32), (num_boxes, 1))
    crowd = np.zeros(num_boxes, bool) if crowd is None else np.array(crowd)
    return Record(0, *HW, boxes, np.zeros(num_boxes, np.int32), crowd)


def _config(**values: object) -> ConfigDict:
    config = get_config().data
    config.update(values)
    return config


def test_donors_are_as_frequent_as_asked_and_give_half_their_objects():
    records, rng = [_record(4, [False, False, False, True])] * 3, np.random.default_rng(0)
    donors = [donor for _ in range(2000) if (donor := draw_donor(rng, records, HW, _config(copy_paste=0.25)))]
    assert abs(len(donors) - 500) < 60
    assert set(np.bincount([donor.index for donor in donors], minlength=3) > 120) == {True}
    np.testing.assert_allclose(np.mean([donor.pasted for donor in donors], axis=0), [0.5, 0.5, 0.5, 0], atol=0.08)
    assert not any(draw_donor(rng, records, HW, _config(copy_paste=0.0)) for _ in range(99))


def test_objects_are_drawn_one_by_one():
    """In half of all donors two objects have the same fate, not in all."""
    rng = np.random.default_rng(0)
    pasted = np.array([draw_donor(rng, [_record(2)], HW, _config(copy_paste=1.0)).pasted for _ in range(500)])
    assert (pasted[:, 0] == pasted[:, 1]).mean() == pytest.approx(0.5, abs=0.08)


def test_a_donor_has_a_view_of_its_own_size_for_the_bucket_it_is_pasted_into():
    records = [_record(1)._replace(height=20, width=80)]
    config = _config(copy_paste=1.0, short_edges=(30,), long_edge=100, flip_probability=1.0)
    donor = draw_donor(np.random.default_rng(0), records, HW, config)
    assert donor.view.resized_hw == (16, 64)
    assert donor.view.flip
