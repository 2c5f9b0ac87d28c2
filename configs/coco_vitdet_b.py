"""Mask R-CNN with a plain ViT-B and LGA on COCO 2017, 100 epochs of large-scale jitter.

    python train.py --config configs/coco_vitdet_b.py --workdir runs/coco_vitdet_b \
        --config.model.init_from=hf://timm/vit_base_patch16_224.mae/model.safetensors

Batch, schedule, augmentation and rates follow Detectron2's `mask_rcnn_vitdet_b_100ep`, which reports 51.6 (boxes) and
45.9 (masks) from the same weights. What differs: no relative positions; an FPN, which also sums from coarse to fine;
group norm instead of layer norm; and LGA on the box features.
The C2 of this backbone comes from its last block, so LGA's close-ups and its guide see no early features.

Expected AP: not measured yet.
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from


def get_config() -> ConfigDict:
    config = start_from("coco_mask")
    config.batch_size = 64
    config.num_steps = 184_375  # 100 epochs

    config.data.scale_jitter = (0.1, 2.0)
    config.data.eval_short_edge = 1024
    config.data.long_edge = 1024
    config.data.buckets = ((1024, 1024),)

    config.model.backbone = ConfigDict(
        dict(
            name="vit",
            variant="base",  # "small", "base"; init_from must be of the same
            frozen_stages=0,  # 0: none, 1: stem, 2: stem and the first three blocks, ... 5: all
            stochastic_depth=0.1,  # share of the images in which a step skips a layer of the last block; earlier: less
            remat=True,  # the backward pass computes each block again: less memory, more time; False: neither
        )
    )
    config.model.fpn.norm = "gn"
    config.model.rpn.num_convs = 2
    config.model.box_head.num_convs = 4
    config.model.box_head.num_fcs = 1
    config.model.box_head.norm = "gn"
    config.model.mask_head.norm = "gn"

    config.optim.optimizer = "adamw"
    config.optim.lr = 1e-4
    config.optim.lr_batch_size = 64
    config.optim.weight_decay = 0.1
    config.optim.milestones = (163_889, 177_546)
    config.optim.warmup_steps = 250
    config.optim.backbone_decay = 0.7
    return config
