"""A Predictor with a stand-in for the network: it finds one object in the middle of every image."""

import contextlib
import json

import jax
import numpy as np
import pytest

from configs.coco import get_config
from lga_jax.checkpoints.read import Saved
from lga_jax.inference import predictor
from lga_jax.structs import Detections

CONFIG = get_config()
CONFIG.data.update(
    short_edges=(64,),
    eval_short_edge=64,
    long_edge=96,
    flip_probability=0.0,
    buckets=((64, 96), (96, 64)),
    num_workers=1,
    prefetch=1,
)


def find_the_middle(variables, batch):
    """The middle quarter of each image as class 'mixer', with one mask in its centre; then a slot that is not valid."""
    h, w = np.moveaxis(np.asarray(batch.image_hw), -1, 0)
    boxes = np.stack([np.stack([w / 4, h / 4, 3 * w / 4, 3 * h / 4], -1), np.zeros((*h.shape, 4))], -2)
    centres = (boxes[..., None, :2] + boxes[..., None, 2:]) / 2
    valid = np.broadcast_to([True, False], boxes.shape[:-1])
    return Detections(
        boxes=boxes.astype(np.float32),
        scores=valid * np.float32(0.75),
        labels=valid.astype(np.int32),
        valid=valid,
        rois=boxes.astype(np.float32),
        mask_centres=centres.astype(np.float32),
        mask_sigmas=np.full_like(centres, 5, dtype=np.float32),
        masks=np.zeros((*valid.shape, 0, 0), np.float32),
    )


class MiddleStep:
    """A predict step of numpy; what it compiles ahead is nothing."""

    def __init__(self):
        self.lowered = []

    def __call__(self, variables, batch):
        return find_the_middle(variables, batch)

    def lower(self, variables, batch):
        self.lowered.append(batch.images.shape[1:4])
        return jax.jit(lambda: 0).lower()


@contextlib.contextmanager
def predictor_of(step):
    """A Predictor whose prediction step is `step`."""
    manifest = {"config": json.loads(CONFIG.to_json()), "class_names": ["crane", "mixer"], "category_ids": [3, 7]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor, "make_predict_step", lambda detector, inference: step)
        yield predictor.Predictor(Saved(7, "the latest", manifest, {}), "runs/stub")
