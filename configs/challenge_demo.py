"""The challenge set in a few minutes on two CPU cores: `make demo`. A small network, small images of severity 1.

    python train.py --config configs/challenge_demo.py --workdir runs/demo
    python eval.py --config configs/challenge_demo.py --workdir runs/demo

Everything starts from random; nothing is downloaded. Expected AP: 0.60 (benchmarks/RESULTS.md).
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from


def get_config() -> ConfigDict:
    config = start_from("challenge")
    config.batch_size = 8
    config.num_steps = 500
    config.checkpoint_every = 100
    config.eval_every = 100

    for part in ("train", "eval"):
        config.data[part].update(image_hw=(128, 128), severities=(1,))
    config.data.eval.num_images = 200
    config.data.short_edges = (128,)
    config.data.eval_short_edge = 128
    config.data.long_edge = 128
    config.data.buckets = ((128, 128),)

    config.model.backbone.width = 16
    config.model.fpn.channels = 64
    config.model.proposals.update(pre_nms_train=100, pre_nms_test=100, post_nms_train=100, post_nms_test=60)
    config.model.roi_sampling.num_samples = 32

    config.optim.lr = 2e-3
    config.optim.lr_batch_size = 8
    config.optim.warmup_steps = 50
    return config
