import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from configs.coco import get_config
from lga_jax.data.augment.photometric import Colour, draw_colour
from lga_jax.data.augment.view import (
    View,
    content_hw,
    draw_view,
    evaluation_hw,
    evaluation_view,
    see_boxes,
    see_image,
    see_points,
    training_hw,
)
from lga_jax.data.augment.window import Window
from lga_jax.data.source import Record

SIDES = st.tuples(st.integers(5, 900), st.integers(5, 900))


def _data(**values: object) -> ConfigDict:
    data = get_config().data
    data.update(values)
    return data


def _draw(count: int, hw: tuple[int, int], bucket_hw: tuple[int, int], **values: object) -> list[View]:
    rng, record = np.random.default_rng(0), _record(hw)
    return [draw_view(rng, record, bucket_hw, _data(**values)) for _ in range(count)]


def _record(hw: tuple[int, int], *boxes: list[float]) -> Record:
    labels = np.zeros(len(boxes), np.int32)
    return Record(0, *hw, np.array(boxes, np.float32).reshape(-1, 4), labels, labels > 0)


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
    view = draw_view(np.random.default_rng(seed), _record(hw), bucket_hw, _data(scale_jitter=(0.1, 2.0)))
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


def test_a_crop_can_begin_at_every_offset_that_there_is():
    """Of 403 pixels 400 are kept: offsets 0 to 3, the last as often as the others."""
    views = _draw(400, (403, 403), (400, 400), scale_jitter=(1.0075, 1.0075), size_rounding="nearest")
    assert {view.resized_hw for view in views} == {(403, 403)}
    np.testing.assert_allclose(np.bincount([view.crop_yx[0] for view in views]), [100] * 4, atol=30)


def test_the_bucket_follows_the_largest_short_edge_and_evaluation_has_its_own():
    data = _data(short_edges=(640, 800, 720), eval_short_edge=600, long_edge=1333)
    assert training_hw((480, 640), data) == (800, 1067)
    assert training_hw((300, 900), data) == (444, 1333)
    assert evaluation_hw((480, 640), data) == (600, 800)
    assert evaluation_view((480, 640), (800, 1344), data) == View((600, 800), (0, 0), False)


def test_what_is_seen_is_bounded_by_the_bucket_on_each_axis():
    assert content_hw(View((30, 70), (0, 0), False), (40, 50)) == (30, 50)
    assert content_hw(View((70, 30), (0, 0), False), (50, 40)) == (50, 30)


def test_colours_are_drawn_with_their_probability_and_seen():
    assert {view.colour for view in _draw(9, (50, 50), (99, 99), photometric=0.0)} == {Colour()}
    drawn = [view.colour for view in _draw(200, (50, 50), (99, 99), photometric=1.0)]
    assert len(set(drawn)) == 200
    image = np.full((4, 6, 3), 100, np.uint8)
    seen = np.zeros_like(image)
    see_image(seen, image, View((4, 6), (0, 0), False, Colour(brightness=1.1)), "bilinear")
    np.testing.assert_array_equal(seen, 110)


@pytest.mark.parametrize("flip", [False, True])
def test_an_image_and_its_boxes_are_resized_cropped_and_flipped_alike(flip):
    """Twice the size, rows 4 to 16 and columns 6 to 30: a bright rectangle lies where its box says."""
    image = np.zeros((10, 20, 3), np.uint8)
    image[4:7, 5:12] = 255
    view, seen = View((20, 40), (4, 6), flip), np.zeros((12, 24, 3), np.uint8)
    see_image(seen, image, view, "bilinear")
    boxes = np.array([[5, 4, 12, 7], [0, 0, 2, 2]], np.float32)
    inside, outside = see_boxes(boxes, (10, 20), view, (12, 24)).tolist()
    assert inside == ([6, 4, 20, 10] if flip else [4, 4, 18, 10])
    assert outside[0] == outside[2] and outside[1] == outside[3]
    bright = seen[..., 0] > 127
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    assert [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] == inside


def test_a_flip_mirrors_on_the_width_of_what_is_seen():
    boxes = see_boxes(np.array([[1, 2, 5, 4]], np.float32), (10, 20), View((10, 20), (0, 0), True), (10, 20))
    assert boxes.tolist() == [[15, 2, 19, 4]]
    assert boxes.dtype == np.float32


def test_an_image_and_its_boxes_are_cut_turned_resized_and_flipped_alike():
    """The window is rows 2 to 10 and columns 4 to 20; a turn to the left makes it 16 x 8; then twice the size."""
    image = np.zeros((12, 24, 3), np.uint8)
    image[4:7, 6:12] = 255
    for turns, size, expected in (
        (1, (32, 16), [4, 16, 10, 28]),
        (2, (16, 32), [16, 6, 28, 12]),
        (3, (32, 16), [6, 4, 12, 16]),
    ):
        view = View(size, (0, 0), False, window=Window(2, 4, 8, 16), turns=turns)
        assert view.source_hw((12, 24)) == (size[0] // 2, size[1] // 2)
        seen = np.zeros((*size, 3), np.uint8)
        see_image(seen, image, view, "bilinear")
        boxes = see_boxes(np.array([[6, 4, 12, 7], [0, 0, 2, 2]], np.float32), (12, 24), view, size)
        assert boxes[0].tolist() == expected and boxes.dtype == np.float32
        assert (boxes[1, 2:] == boxes[1, :2]).all()  # outside the window
        bright = seen[..., 0] > 127
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        assert [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] == expected


def test_a_turned_image_fits_its_bucket():
    views = _draw(200, (480, 640), (640, 800), short_edges=(640,), quarter_turns=0.75)
    assert {view.resized_hw for view in views if view.turns % 2 == 0} == {(600, 800)}
    assert {view.resized_hw for view in views if view.turns % 2} == {(640, 480)}
    np.testing.assert_allclose(np.bincount([view.turns for view in views]), [50] * 4, atol=25)


def test_a_window_is_resized_as_an_image_of_its_size():
    record = _record((900, 1200), [600, 300, 640, 330])
    data = _data(short_edges=(450,), object_crop=1.0, object_crop_sides=(300, 300))
    view = draw_view(np.random.default_rng(0), record, (450, 600), data)
    assert (view.window.height, view.window.width, view.resized_hw) == (300, 400, (450, 600))


def test_blur_and_compression_are_seen_and_change_no_size():
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    plain = View((9, 12), (0, 0), False)
    for changed in (plain._replace(blur=1.0), plain._replace(quality=30)):
        seen = np.zeros_like(image)
        see_image(seen, image, changed, "bilinear")
        assert 5 < np.abs(seen.astype(int) - image).mean() < 90
    views = _draw(400, (50, 50), (99, 99), blur=0.5, jpeg=0.25)
    assert abs(sum(view.blur > 0 for view in views) - 200) < 50
    assert abs(sum(view.quality > 0 for view in views) - 100) < 40


def test_keys_that_are_off_draw_no_random_numbers():
    """Views of a seed stay what they were before there were these keys."""
    off = draw_view(np.random.default_rng(5), _record((480, 640)), (800, 1344), _data(photometric=0.5))
    rng = np.random.default_rng(5)
    edge, flip = (640, 672, 704, 736, 768, 800)[rng.integers(6)], bool(rng.random() < 0.5)
    assert off == View((edge, round(edge * 4 / 3)), (0, 0), flip, draw_colour(rng, 0.5))


@given(SIDES, st.booleans(), st.integers(0, 3), st.booleans(), st.floats(0, 1))
def test_points_are_seen_where_boxes_are(hw, flip, turns, in_window, place):
    window = Window(1, 2, hw[0] - 2, hw[1] - 3) if in_window else None
    part_hw = View((0, 0), (0, 0), False, window=window, turns=turns).source_hw(hw)
    resized, seen_hw = (2 * part_hw[0], 3 * part_hw[1]), (2 * part_hw[0] - 1, 3 * part_hw[1] - 2)
    view = View(resized, (round(place), round(2 * place)), flip, window=window, turns=turns)
    placement = see_points(hw, view, seen_hw)
    box = np.array([0.4 * hw[1], 0.4 * hw[0], 0.6 * hw[1], 0.6 * hw[0]], np.float32)
    corners = box.reshape(2, 2) @ placement.matrix.T + placement.offset
    expected = see_boxes(box[None], hw, view, seen_hw)[0]
    if (expected[2:] - expected[:2] > 0).all():
        limits = np.array(seen_hw[::-1] * 2)
        np.testing.assert_allclose(np.clip([*corners.min(0), *corners.max(0)], 0, limits), expected, atol=1e-2)
