"""A source of small images whose objects are known, and the settings that load it."""

import numpy as np

from configs.coco import get_config
from lga_jax.data.source import Record

DATA = get_config().data
DATA.update(
    short_edges=(64,),
    eval_short_edge=64,
    long_edge=128,
    flip_probability=0.0,
    buckets=((64, 96), (96, 64)),
    num_workers=1,
    prefetch=1,
)


class Boards:
    """Images of three sizes, each with one object of class 'b' (category 30) in its middle; image ids are strings."""

    class_names = ("a", "b")
    report = ()
    fingerprint = ""

    def __init__(self, count):
        sizes = [(40, 50), (50, 40), (128, 128)]
        self.records = [
            Record(
                image_id=f"{count - i}.png",
                height=h,
                width=w,
                boxes_original=np.float32([[w / 4, h / 4, w / 2, h / 2]]),
                labels=np.int32([1]),
                crowd=np.array([False]),
            )
            for i, (h, w) in zip(range(count), sizes * count, strict=False)
        ]

    def image(self, index):
        record = self.records[index]
        return np.full((record.height, record.width, 3), index, np.uint8)

    def truth(self):
        boxes = [(record.image_id, record.boxes_original[0].tolist()) for record in self.records]
        return {
            "images": [{"id": r.image_id, "height": r.height, "width": r.width} for r in self.records],
            "categories": [{"id": 20, "name": "a"}, {"id": 30, "name": "b"}],
            "annotations": [
                {"id": i + 1, "image_id": name, "category_id": 30, "bbox": [x, y, x2 - x, y2 - y]}
                for i, (name, (x, y, x2, y2)) in enumerate(boxes)
            ],
        }
