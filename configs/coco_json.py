"""LGA R-CNN with a ResNet-50-FPN on your own annotations in COCO's JSON format.

For some hundred to some ten thousand images, on a GPU or TPU; configs/coco_json_small.py is the recipe for a CPU.

    data/mine/annotations/train.json   the format of COCO's "instances" files; category ids may have gaps
    data/mine/annotations/val.json
    data/mine/images/                  file names as in the JSON

    python train.py --config configs/coco_json.py --workdir runs/mine
    python eval.py --config configs/coco_json.py --workdir runs/mine

Another place: --config.data.train.root=DIR, .annotations=FILE and .images=DIR, and the same under --config.data.eval.

Every layer starts from random, with group norm. ImageNet weights are worth much more:

    --config.model.init_from=hf://timm/resnet50.tv_in1k/model.safetensors \
    --config.model.backbone.norm=frozen_bn --config.model.backbone.frozen_stages=2

num_steps is epochs x images / batch_size: 3,000 steps of 8 are 12 epochs of 2,000 images. For images much smaller or
larger than 640 pixels, change the edges and the buckets. The AP depends on your data.
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from


def get_config() -> ConfigDict:
    config = start_from("coco")
    config.batch_size = 8
    config.num_steps = 3_000
    config.checkpoint_every = 250
    config.eval_every = 500

    for part, name in (("train", "train"), ("eval", "val")):
        config.data[part].root = "data/mine"
        config.data[part].annotations = f"annotations/{name}.json"
        config.data[part].images = "images"
    config.data.train.skip_empty = False  # images without objects are background examples
    config.data.short_edges = (480, 512, 544, 576, 608, 640)
    config.data.eval_short_edge = 640
    config.data.long_edge = 1024
    config.data.buckets = ((640, 640), (640, 1024), (1024, 640))
    config.data.num_workers = 4

    config.model.backbone.norm = "gn"
    config.model.backbone.frozen_stages = 0
    config.model.proposals.pre_nms_train = 1000
    config.model.proposals.post_nms_train = 500
    config.model.proposals.post_nms_test = 500
    config.model.roi_sampling.num_samples = 256

    # AdamW with a cosine needs no tuning of milestones to the length of the run.
    config.optim.optimizer = "adamw"
    config.optim.lr = 2e-4
    config.optim.weight_decay = 0.05
    config.optim.schedule = "cosine"
    config.optim.warmup_steps = 250
    config.optim.warmup_factor = 0.01
    config.optim.clip_norm = 5.0
    return config
