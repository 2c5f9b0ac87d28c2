"""The smallest runs: of a real detector, and of a stub that stands for it and starts in a second.

Everything else is real in both: data, checkpoints, metrics. Scores differ between evaluations, so that the best
checkpoint is not the latest, and old checkpoints are deleted.
"""

from pathlib import Path

SMALL = """
from configs import challenge

def get_config():
    config = challenge.get_config()
    config.update(batch_size=2, num_steps=16, log_every=2, checkpoint_every=3, eval_every=4)
    config.data.train.update(num_images=12, image_hw=(64, 64))
    config.data.eval.update(num_images=8, image_hw=(64, 64), challenges=("plain",), severities=(1,))
    config.data.update(short_edges=(64,), eval_short_edge=64, long_edge=64, buckets=((64, 64),), num_workers=2)
    config.model.backbone.width = 8
    config.model.fpn.channels = 16
    config.model.anchors.sizes = (8, 16, 32, 48, 64)
    config.model.anchor_sampling.num_samples = 32
    config.model.proposals.update(pre_nms_train=20, post_nms_train=10, pre_nms_test=40, post_nms_test=20)
    config.model.roi_sampling.num_samples = 8
    config.model.lga.update(reduced_channels=4, hidden=8, close_up_points=3, close_up_channels=4)
    config.model.box_head.hidden = 16
    config.inference.update(max_detections=30, max_candidates=100, score_threshold=0.0)
    config.optim.update(lr=5e-3, lr_batch_size=2, warmup_steps=2, ema_decay=0.5)
    return config
"""

STUB = """
from tests.training.stubs import stub_config

def get_config():
    return stub_config(num_steps=16, checkpoint_every=3, eval_every=4, batch_size=2)
"""


def write_recipe(folder: Path, text: str = SMALL) -> Path:
    """Writes folder/small.py."""
    path = folder / "small.py"
    path.write_text(text)
    return path
