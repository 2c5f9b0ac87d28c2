import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from configs.coco import get_config
from lga_jax.data.augment.view import View, draw_view, evaluation_view, training_hw

SIDES = st.tuples(st.integers(5, 900), st.integers(5, 900))


def _data(**values: object) -> ConfigDict:
    data = get_config().data
    data.update(values)
    return data


def _draw(count: int, hw: tuple[int, int], bucket_hw: tuple[int, int], **values: object) -> list[View]:
    rng = np.random.default_rng(0)
    return [draw_view(rng, hw, bucket_hw, _data(**values)) for _ in range(count)]


def test_views_take_every_edge_and_flip_as_often_as_asked():
    views = _draw(1500, (500, 500), (1000, 1000), short_edges=(640, 672, 704), flip_probability=0.25)
    counts = [sum(view.resized_hw == (edge, edge) for view in views) for edge in (640, 672, 704)]
    np.testing.assert_allclose(counts, 500, atol=60)
    np.testing.assert_allclose(sum(view.flip for view in views), 375, atol=60)
    assert not any(any(view.crop_yx) for view in views)
    assert not any(view.flip for view in _draw(9, (5, 5), (9, 9), flip_probability=0.0))
    assert all(view.flip for view in _draw(9, (5, 5), (9, 9), flip_probability=1.0))


def test_views_are_resized_to_the_edges_and_fit_their_bucket():
    only = {"short_edges": (800,), "flip_probability": 0.0}
    assert _draw(1, (480, 640), (800, 1344), **only) == [View((800, 1067), (0, 0), False)]
    assert _draw(1, (480, 640), (800, 1344), **only, size_rounding="floor") == [View((800, 1066), (0, 0), False)]
    assert _draw(1, (480, 640), (400, 1344), **only) == [View((400, 534), (0, 0), False)]


@given(hw=SIDES, bucket_hw=SIDES, seed=st.integers(0, 99))
def test_jitter_stays_within_its_range_and_its_bucket(hw, bucket_hw, seed):
    view = draw_view(np.random.default_rng(seed), hw, bucket_hw, _data(scale_jitter=(0.1, 2.0)))
    fitting = min(bucket_hw[0] / hw[0], bucket_hw[1] / hw[1])
    for axis in (0, 1):
        assert 0.1 * fitting * hw[axis] - 1 <= view.resized_hw[axis] <= 2.0 * fitting * hw[axis] + 1
        assert view.resized_hw[axis] >= 1
        room = max(0, view.resized_hw[axis] - bucket_hw[axis])
        assert 0 <= view.crop_yx[axis] <= room


def test_jitter_is_uniform_in_its_factor_and_crops_lie_on_the_diagonal():
    views = _draw(2000, (300, 400), (400, 400), scale_jitter=(0.1, 2.0))
    factors = np.array([view.resized_hw[1] / 400 for view in views])
    assert factors.min() < 0.11
    assert factors.max() > 1.99
    np.testing.assert_allclose(np.histogram(factors, bins=4, range=(0.1, 2.0))[0], 500, atol=70)
    cropped = [view for view in views if view.resized_hw[0] > 480]
    rooms = np.array([np.subtract(view.resized_hw, 400) for view in cropped])
    places = np.array([view.crop_yx for view in cropped]) / rooms
    np.testing.assert_allclose(places[:, 0], places[:, 1], atol=2 / rooms.min())
    np.testing.assert_allclose(np.histogram(places[:, 0], bins=4, range=(0, 1))[0], len(cropped) / 4, rtol=0.2)
    assert {crop for view in views for crop in view.crop_yx if max(view.resized_hw) <= 400} == {0}


def test_jitter_rounds_as_asked():
    fixed = {"scale_jitter": (1.0, 1.0), "flip_probability": 0.0}
    assert _draw(1, (427, 640), (1024, 1024), **fixed) == [View((683, 1024), (0, 0), False)]  # 683.2
    assert _draw(1, (428, 640), (1024, 1024), **fixed) == [View((685, 1024), (0, 0), False)]  # 684.8
    assert _draw(1, (428, 640), (1024, 1024), **fixed, size_rounding="floor")[0].resized_hw == (684, 1024)


def test_evaluation_knows_neither_jitter_nor_flips():
    data = _data(scale_jitter=(0.1, 2.0), flip_probability=1.0)
    assert evaluation_view((480, 640), (800, 1344), data) == View((800, 1067), (0, 0), False)
    assert evaluation_view((480, 640), (600, 1344), data) == View((600, 800), (0, 0), False)


@pytest.mark.parametrize("hw", [(480, 640), (640, 480), (100, 1000)])
def test_with_jitter_the_bucket_is_the_one_that_keeps_an_image_largest(hw):
    data = _data(scale_jitter=(0.1, 2.0), buckets=((800, 1344), (1344, 800), (600, 600)))
    height, width = training_hw(hw, data)
    assert max(height, width) == 1344
    assert height / width == pytest.approx(hw[0] / hw[1], rel=0.01)
