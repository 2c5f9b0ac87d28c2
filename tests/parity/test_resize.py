"""Images on their way to the network: torchvision resizes floats on the device, we resize bytes on the host."""

from contextlib import closing
from itertools import islice

import jax
import numpy as np

from configs import coco_torchvision_v1
from lga_jax.data.augment.view import evaluation_hw
from lga_jax.data.batches.loader import EvalLoader
from lga_jax.data.challenge.source import Challenge
from lga_jax.data.coco.source import CocoJson
from tests.parity.detectors import PHOTOS
from tests.parity.reference import array, tensor, torch, torchvision


def transform():
    """torchvision's, to 800 x 1333, without its normalisation."""
    return torchvision.models.detection.transform.GeneralizedRCNNTransform(800, 1333, [0.0] * 3, [1.0] * 3).eval()


def test_sizes(record, rng):
    resize, data_config = transform().resize, coco_torchvision_v1.get_config().data
    sizes = [(480, 640), (427, 640), (333, 500), *map(tuple, rng.integers(50, 2000, (300, 2)).tolist())]
    theirs = [resize(torch.zeros(1, *hw))[0].shape[1:] for hw in sizes]
    record.same("images", "height and width after resizing", [evaluation_hw(hw, data_config) for hw in sizes], theirs)


def test_pixels(record):
    if PHOTOS.is_dir():
        source = CocoJson(str(PHOTOS), "annotations/instances_val2017.json", "val2017", skip_empty=False)
    else:
        source = Challenge(6)
    data_config = coco_torchvision_v1.get_config().data
    data_config.num_workers = 1
    with closing(EvalLoader(source, data_config, 2, jax.local_devices()[:1])) as loader:
        batches = [jax.tree.map(lambda leaf: np.asarray(leaf)[0], batch) for batch in islice(loader, 3)]
    for batch in batches:
        for i, index in enumerate(batch.index.tolist()):
            image = source.image(index)
            theirs, target = transform().resize(
                tensor(image.transpose(2, 0, 1).astype(np.float32)), dict(boxes=tensor(np.ones((1, 4), np.float32)))
            )
            ours = batch.images[i, : int(batch.image_hw[i, 0]), : int(batch.image_hw[i, 1])]
            error = np.abs(ours.transpose(2, 0, 1) - array(theirs)).max()
            record("images", "pixels after resizing", error, 1.0, ours.size, "of 255")
            record.near("images", "scale of the boxes", batch.scale_hw[i], array(target["boxes"])[0, [3, 2]], 1e-6)
