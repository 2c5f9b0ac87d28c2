"""LGA R-CNN on BCCD (blood cells, github.com/Shenggan/BCCD_Dataset), a small real data set, on a laptop's CPU.

    python train.py --config configs/bccd.py --workdir runs/bccd --config.model.init_from=resnet18.npz
    python eval.py --config configs/bccd.py --workdir runs/bccd

292 images for training and 72 for testing, 640 x 480 pixels, three classes, as COCO JSON under data/bccd. ResNet-18
with ImageNet weights, short edge 300, 12 epochs. Expected AP: 0.61 without attention (benchmarks/RESULTS.md).
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from


def get_config() -> ConfigDict:
    config = start_from("coco")
    config.batch_size = 4
    config.num_steps = 876  # 12 epochs
    config.log_every = 10
    config.checkpoint_every = 73  # an epoch
    config.eval_every = 292

    for part, name in (("train", "trainval"), ("eval", "test")):
        config.data[part].root = "data/bccd"
        config.data[part].annotations = f"annotations/{name}.json"
        config.data[part].images = "images"
    config.data.short_edges = (300,)
    config.data.eval_short_edge = 300
    config.data.long_edge = 416
    config.data.buckets = ((320, 416), (416, 320))
    config.data.num_workers = 2

    config.model.dtype = "float32"
    config.model.backbone.depth = 18
    config.model.fpn.channels = 128
    config.model.anchors.sizes = (16, 32, 64, 128, 256)
    config.model.proposals.pre_nms_train = 500
    config.model.proposals.pre_nms_test = 300
    config.model.proposals.post_nms_train = 500
    config.model.proposals.post_nms_test = 200
    config.model.roi_sampling.num_samples = 128
    config.model.box_head.hidden = 512

    config.inference.max_candidates = 400

    config.optim.optimizer = "adamw"
    config.optim.lr = 4e-4
    config.optim.lr_batch_size = 4
    config.optim.weight_decay = 0.05
    config.optim.schedule = "cosine"
    config.optim.warmup_steps = 100
    config.optim.warmup_factor = 0.01
    config.optim.clip_norm = 5.0
    return config
