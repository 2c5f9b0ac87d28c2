import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lga_jax.suggest.shapes import RATIOS, WIDE_RATIOS, choose_anchors, choose_buckets


def test_one_shape_needs_one_bucket():
    assert choose_buckets(np.array([[256, 341]] * 9)) == [(256, 352)]


def test_landscape_and_portrait_need_two_and_a_few_others_none():
    sizes = np.array([[256, 384]] * 60 + [[384, 256]] * 60 + [[256, 512]])
    assert choose_buckets(sizes) == [(256, 384), (384, 256)]


@settings(max_examples=25)
@given(sizes=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=40))
def test_there_are_few_buckets_and_nearly_all_images_fit(sizes):
    buckets = choose_buckets(np.array(sizes))
    assert 1 <= len(buckets) <= 3 and all(side % 32 == 0 for bucket in buckets for side in bucket)
    fits = [any(h <= height and w <= width for height, width in buckets) for h, w in sizes]
    assert sum(fits) >= 0.94 * len(sizes)  # at most two buckets of at most 2 % are left out


def test_anchors_stay_as_usual_unless_others_are_clearly_better():
    square = np.full((50, 2), 64.0)
    sizes, ratios, before, after = choose_anchors(square, np.ones(50), 16)
    assert (sizes, ratios) == ((16, 32, 64, 128, 256), RATIOS)
    assert before == after == pytest.approx(1)
    sizes, _, before, after = choose_anchors(np.full((50, 2), 11.0), np.ones(50), 32)
    assert sizes == (11, 22, 44, 88, 176)
    assert (before, after) == (pytest.approx((11 / 32) ** 2), pytest.approx(1))


def test_of_equally_good_anchors_those_near_the_usual_are_taken():
    """About 90 pixels are met by 11, 23 and 45 pixels times a power of two."""
    boxes = np.repeat(np.linspace(75, 105, 31)[:, None], 2, axis=1)
    assert choose_anchors(boxes, np.ones(31), 17)[0] == (23, 46, 92, 184, 368)
    assert choose_anchors(boxes, np.ones(31), 35)[0] == (45, 90, 180, 360, 720)


def test_long_objects_get_long_anchors():
    long = np.array([[32 * np.sqrt(5), 32 / np.sqrt(5)]] * 5)
    _, ratios, before, after = choose_anchors(long, np.ones(5), 16)
    assert ratios == WIDE_RATIOS and after == pytest.approx(1) and before < 0.7


def test_weights_decide_which_objects_matter():
    boxes = np.array([[11.0, 11.0], [128.0, 128.0]])
    assert choose_anchors(boxes, np.array([1.0, 0.0]), 32)[0][0] == 11
    assert choose_anchors(boxes, np.array([0.0, 1.0]), 32)[0][0] == 32
