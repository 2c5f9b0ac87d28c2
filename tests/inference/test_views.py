"""Views of an image: which parts are predicted, and how their detections become those of the image."""

import jax
import numpy as np
import pytest

from configs.coco import get_config
from lga_jax.data.source import Record
from lga_jax.errors import UserError
from lga_jax.inference.images import GivenImages
from lga_jax.inference.locate import Located
from lga_jax.inference.predictor import Predictor
from lga_jax.inference.views import (
    Found,
    Part,
    PartSource,
    Views,
    check_views,
    fuse,
    locate_views,
    parts_of,
    scaled,
    suppress,
    tile_starts,
)
from lga_jax.structs import Detections
from tests.inference.test_predictor import IMAGE, same

DATA = get_config().data


def found_of(boxes, scores, labels=None, cut=None):
    count = len(boxes)
    masks = np.zeros((count, 0, 2), np.float32)
    return Found(
        np.float32(boxes),
        np.float32(scores),
        np.array(labels or [0] * count, np.int32),
        np.float32(boxes),
        masks,
        masks,
        np.zeros((count, 0, 0), np.float32),
        np.array(cut or [False] * count, bool),
    )


class Board:
    """A source of one image on which a stand-in for the detector finds the same objects in every view."""

    def __init__(self, hw, objects):
        self.class_names = ("car",)
        y, x = np.mgrid[: hw[0], : hw[1]]
        self._pixels = np.stack([x // 256, x % 256, y % 256], axis=-1).astype(np.uint8)  # a pixel knows its place
        self.records = [Record(0, *hw, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool))]
        self.objects = np.float32(objects)

    def image(self, index):
        return self._pixels

    def locate(self, parts, data):
        """The visible part of every object, at twice the size, with one mask in the middle of the object."""
        for number, record in enumerate(parts.records):
            pixels = parts.image(number).astype(int)
            flip = pixels[0, 0, 1] + 256 * pixels[0, 0, 0] > pixels[0, -1, 1] + 256 * pixels[0, -1, 0]
            corner = pixels[0, -1 if flip else 0]
            x, y = 256 * corner[0] + corner[1], corner[2]
            low = np.clip(self.objects[:, :2] - [x, y], 0, [record.width, record.height])
            high = np.clip(self.objects[:, 2:] - [x, y], 0, [record.width, record.height])
            middle = (self.objects[:, :2] + self.objects[:, 2:]) / 2 - [x, y]
            if flip:
                low[:, 0], high[:, 0] = record.width - high[:, 0], record.width - low[:, 0]
                middle[:, 0] = record.width - middle[:, 0]
            boxes = 2 * np.concatenate([low, high], axis=1).astype(np.float32)[None]
            visible = (high - low).min(axis=1) > 1
            scores = np.float32(0.9 + 0.01 * np.arange(len(middle)))[None]  # all views are equally sure
            masks = 2 * middle.astype(np.float32)[None, :, None]
            labels = np.zeros(scores.shape, np.int32)
            # The object mask of each box covers its left half.
            halves = np.tile(np.float32([0.1, 0.9] if flip else [0.9, 0.1]), (*scores.shape, 2, 1))
            detections = Detections(boxes, scores, labels, visible[None], boxes, masks, masks * 0 + 4, halves)
            yield Located(np.array([number]), np.full((1, 2), 2, np.float32), detections)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("tile", [0, 100])
def test_every_object_is_found_once_at_its_place(flip, tile):
    objects = [[10, 20, 40, 60], [85, 90, 115, 110], [150, 30, 290, 170], [280, 150, 300, 180]]
    board = Board((180, 300), objects)  # across borders of tiles, larger than a tile, in the corner
    views = Views(flip=flip, tile=tile)
    (located,) = locate_views(board.locate, board, DATA, views, 0.5, 20)
    detections = jax.tree.map(lambda leaf: leaf[0][located.detections.valid[0]], located.detections)
    order = np.argsort(detections.scores)
    np.testing.assert_allclose(detections.boxes[order], objects, atol=1e-3)
    centres = (np.float32(objects)[:, :2] + np.float32(objects)[:, 2:]) / 2
    np.testing.assert_allclose(detections.mask_centres[order][:, 0], centres, atol=1e-3)
    np.testing.assert_allclose(detections.masks[:, 0], np.tile(np.float32([0.9, 0.1]), (len(objects), 1)))
    assert located.detections.valid.shape == (1, 20) and (located.scale_hw == 1).all() and located.index.tolist() == [0]


def test_parts_are_the_whole_image_and_tiles_of_one_size():
    record = Record(0, 250, 100, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool))
    parts = parts_of(record, 3, Views(tile=100, overlap=0.2))
    assert parts[0] == Part(3, 0, 0, 250, 100, False)
    assert [(part.y, part.x, part.height, part.width) for part in parts[1:]] == [
        (0, 0, 100, 100),
        (75, 0, 100, 100),
        (150, 0, 100, 100),
    ]
    assert len(parts_of(record, 0, Views(tile=100, overlap=0.2, flip=True))) == 8
    assert len(parts_of(record, 0, Views(tile=300))) == 1  # the image is no larger than a tile


@pytest.mark.parametrize(
    ("side", "tile", "overlap"), [(100, 100, 0.2), (101, 100, 0.0), (1000, 128, 0.25), (37, 32, 0.9)]
)
def test_tiles_cover_a_side_with_the_overlap(side, tile, overlap):
    starts = np.array(tile_starts(side, tile, overlap))
    assert starts[0] == 0 and starts[-1] == side - tile
    assert (np.diff(starts) <= np.ceil(tile * (1 - overlap))).all()


def test_pixels_of_a_part():
    board = Board((20, 30), [])
    whole = board.image(0)
    parts = PartSource(board, [Part(0, 4, 6, 8, 10, False), Part(0, 4, 6, 8, 10, True)])
    np.testing.assert_array_equal(parts.image(0), whole[4:12, 6:16])
    np.testing.assert_array_equal(parts.image(1), whole[4:12, 6:16][:, ::-1])


def test_nms_is_within_a_class_and_drops_cut_boxes():
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [0, 0, 4, 10], [6, 0, 10, 10], [20, 0, 24, 10]]
    found = suppress(found_of(boxes, [0.9, 0.8, 0.7, 0.95, 0.6, 0.5], [0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 1]), 0.5)
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.6, 0.5])  # a part that is no cut object stays


def test_weighted_boxes_fusion():
    found = fuse(
        found_of(
            [[0, 0, 10, 10], [2, 0, 12, 10], [0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.3, 0.6, 0.8], [0, 0, 1, 0]
        ),
        2,
    )
    assert found.labels.tolist() == [0, 0, 1]
    np.testing.assert_allclose(found.boxes[0], [0.5, 0, 10.5, 10], atol=1e-5)  # weights 0.9 and 0.3
    np.testing.assert_allclose(found.scores, [0.6, 0.4, 0.3], atol=1e-6)  # one of two views: half


def test_other_scales_have_other_sizes_and_buckets():
    data = scaled(DATA, 1.5)
    assert (data.eval_short_edge, data.long_edge) == (1200, 2000)
    assert data.eval_buckets == ((1216, 2016), (2016, 1216))
    assert scaled(DATA, 1.0) is DATA


@pytest.mark.parametrize(
    ("views", "subject"),
    [
        (Views(scales=()), "scales"),
        (Views(scales=(1.0, 0.0)), "scales"),
        (Views(tile=5), "tile"),
        (Views(overlap=1.0), "overlap"),
        (Views(merge="mean"), "merge"),
        (Views(merge="wbf", tile=64), "merge"),
    ],
)
def test_values_out_of_range_are_a_users_error(views, subject):
    with pytest.raises(UserError) as raised:
        check_views(views)
    assert raised.value.subject == f"views.{subject}"


@pytest.fixture
def with_views(tiny_predictor):
    """A function that gives the tiny predictor other views; its programs are compiled."""
    yield lambda **views: setattr(tiny_predictor, "views", Views(**views)) or tiny_predictor
    tiny_predictor.views = Views()


def mirrored(found, width):
    return [
        one._replace(
            box=(width - one.box[2], one.box[1], width - one.box[0], one.box[3]),
            mask_centres=tuple((width - x, y) for x, y in one.mask_centres),
        )
        for one in found
    ]


def test_a_mirrored_image_gives_mirrored_detections(with_views):
    model: Predictor = with_views(flip=True)
    there = model.predict(np.ascontiguousarray(IMAGE[:, ::-1]), 0.01)
    here = model.predict(IMAGE, 0.01)
    assert here and {len(here), len(there)} == {8}
    key = lambda one: (one.label, *one.box)  # noqa: E731
    back = mirrored(there, IMAGE.shape[1])
    shared = [one for one in here if any(same([one], [other]) for other in back)]
    assert len(shared) >= 6  # scores of random weights are nearly equal: NMS may choose another one
    assert sorted(map(key, here)) != sorted(map(key, there))


def test_tiles_and_batches_of_a_predictor(with_views):
    model = with_views(tile=32, overlap=0.25)
    located = list(model.locate(GivenImages([IMAGE, IMAGE], model.class_names)))
    assert [one.index.tolist() for one in located] == [[0], [1]]
    for one in located:
        assert one.detections.valid.any() and one.detections.boxes.max() <= 60 + 1e-3
        np.testing.assert_array_equal(one.detections.boxes, located[0].detections.boxes)


def test_fused_boxes_have_no_object_mask():
    board = Board((180, 300), [[10, 20, 40, 60]])
    with pytest.raises(UserError) as raised:
        list(locate_views(board.locate, board, DATA, Views(flip=True, merge="wbf"), 0.5, 20))
    assert raised.value.subject == "views.merge"
