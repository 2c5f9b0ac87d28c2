"""torchvision's `maskrcnn_resnet50_fpn_v2` on COCO 2017: deeper heads with batch norm, 400 epochs from scratch.

    python train.py --config configs/coco_mask_torchvision_v2.py --workdir runs/coco_mask_torchvision_v2

The schedule is that of configs/coco_torchvision_v2.py; torchvision's command is in github.com/pytorch/vision/pull/5773.
The published detector (https://download.pytorch.org/models/maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth), to be scored,
used or trained further:

    lga_jax import-weights --config coco_mask_torchvision_v2 \
        --weights maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth --workdir runs/coco_mask_torchvision_v2_published

Published AP: 47.4 (boxes), 41.8 (masks); not measured here.
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from


def get_config() -> ConfigDict:
    config = start_from("coco_torchvision_v2")
    config.model.mask_head.enabled = True
    config.model.mask_head.norm = "bn"
    return config
