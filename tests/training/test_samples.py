"""Sample pictures of an evaluation."""

import cv2
import numpy as np

from lga_jax.data.source import UnreadableImageError
from lga_jax.training.samples import draw_samples
from tests.evaluation.boards import Boards


class Bright(Boards):
    def image(self, index):
        if index == 0:
            raise UnreadableImageError("first")
        return np.full_like(super().image(index), 200)


def decoded(jpeg):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)


def test_the_same_images_are_drawn_each_time_with_confident_detections():
    source = Boards(9)
    place = source.records[3].image_id  # of images 0, 3, 5 and 8
    found = {"image_id": place, "category_id": 30, "bbox": [4, 4, 20, 20], "score": 0.5}
    nothing, weak, one = (draw_samples(source, detections) for detections in ([], [found | {"score": 0.49}], [found]))
    assert list(one) == ["sample_0", "sample_1", "sample_2", "sample_3"]
    assert weak == nothing
    assert [name for name in one if one[name] != nothing[name]] == ["sample_1"]
    assert max(decoded(one["sample_1"]).shape) <= 800


def test_unreadable_images_are_left_out():
    assert list(draw_samples(Bright(2), [])) == ["sample_1"]
    assert list(draw_samples(Boards(1), [])) == ["sample_0"]
