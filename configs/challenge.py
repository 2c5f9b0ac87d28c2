"""LGA R-CNN on the embedded challenge set: a small network, generated images, a quarter of an hour on a CPU.

    python train.py --config configs/challenge.py --workdir runs/challenge
    python eval.py --config configs/challenge.py --workdir runs/challenge

Everything starts from random; nothing is downloaded. Expected AP: 0.68 (benchmarks/RESULTS.md).
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from

CHALLENGES = (
    "plain",
    "complex_environment",
    "intra_class_variance",
    "inter_class_similarity",
    "scale",
    "motion_blur",
    "camouflage",
)


def get_config() -> ConfigDict:
    config = start_from("coco")
    config.batch_size = 16
    config.num_steps = 600
    config.log_every = 10
    config.checkpoint_every = 200
    config.eval_every = 0

    mixture = dict(image_hw=(160, 160), challenges=CHALLENGES, severities=(1, 2))
    config.data.train = dict(source="challenge", num_images=4000, seed=1, **mixture)
    config.data.eval = dict(source="challenge", num_images=500, seed=2, **mixture)
    config.data.short_edges = (160,)
    config.data.eval_short_edge = 160
    config.data.long_edge = 160
    config.data.buckets = ((160, 160),)
    config.data.num_workers = 2

    config.model.dtype = "float32"
    config.model.backbone.update(depth=18, width=32, norm="gn", frozen_stages=0)
    config.model.fpn.channels = 96
    config.model.anchors.sizes = (16, 32, 64, 128, 256)
    config.model.anchor_sampling.num_samples = 128
    config.model.proposals.pre_nms_train = 200
    config.model.proposals.pre_nms_test = 200
    config.model.proposals.post_nms_train = 200
    config.model.proposals.post_nms_test = 100
    config.model.roi_sampling.num_samples = 64
    config.model.lga.reduced_channels = 32
    config.model.lga.hidden = 128
    config.model.box_head.hidden = 256

    config.inference.max_candidates = 200
    config.inference.max_detections = 50

    config.optim.optimizer = "adamw"
    config.optim.lr = 1e-3
    config.optim.lr_batch_size = 16
    config.optim.weight_decay = 0.05
    config.optim.schedule = "cosine"
    config.optim.warmup_steps = 100
    config.optim.warmup_factor = 0.01
    config.optim.clip_norm = 5.0
    return config
