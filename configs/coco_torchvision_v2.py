"""torchvision's `fasterrcnn_resnet50_fpn_v2` on COCO 2017: deeper heads with batch norm, 400 epochs from scratch.

    python train.py --config configs/coco_torchvision_v2.py --workdir runs/coco_torchvision_v2

Large-scale jitter shows each image at 0.1 to 2 times the size that fits 1024 x 1024 pixels. The learning rate is for
64 images in a step; the recipe is the command of github.com/pytorch/vision/pull/5763. The published detector
(https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth), to be scored, used or trained
further:

    lga_jax import-weights --config coco_torchvision_v2 \
        --weights fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth --workdir runs/coco_torchvision_v2_published

Published AP: 46.7. Expected AP: not measured yet.
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from

EPOCH = 117_266 // 64  # steps; the images of train2017 with a box


def get_config() -> ConfigDict:
    config = start_from("coco_torchvision_v1")
    config.batch_size = 64
    config.num_steps = 400 * EPOCH

    config.data.scale_jitter = (0.1, 2.0)
    config.data.resize = "antialias"  # evaluation enlarges nearly all of COCO's images: there it changes nothing
    config.data.buckets = ((1024, 1024),)
    config.data.eval_buckets = ((800, 1344), (1344, 800))

    config.model.backbone.norm = "bn"
    config.model.backbone.frozen_stages = 0
    config.model.fpn.norm = "bn"
    config.model.rpn.num_convs = 2
    config.model.box_head.num_convs = 4
    config.model.box_head.num_fcs = 1
    config.model.box_head.norm = "bn"

    config.optim.lr = 0.1
    config.optim.lr_batch_size = 64
    config.optim.weight_decay = 4e-5
    config.optim.norm_weight_decay = 4e-5
    config.optim.milestones = (352 * EPOCH, 384 * EPOCH)
    return config
