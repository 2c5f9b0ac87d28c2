"""torchvision's `maskrcnn_resnet50_fpn` on COCO 2017: Mask R-CNN with its network, its pixels and its schedule.

    python train.py --config configs/coco_mask_torchvision_v1.py --workdir runs/coco_mask_torchvision_v1 \
        --config.model.init_from=hf://timm/resnet50.tv_in1k/model.safetensors

The published detector (https://download.pytorch.org/models/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth), to be scored,
used or trained further:

    lga_jax import-weights --config coco_mask_torchvision_v1 --config.model.backbone.norm_eps=0 \
        --weights maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth --workdir runs/coco_mask_torchvision_v1_published

These weights were made without an epsilon in the frozen norms. Give `eval.py` and `train.py` the same value.

Published AP: 37.9 (boxes), 34.6 (masks); not measured here.
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from


def get_config() -> ConfigDict:
    config = start_from("coco_torchvision_v1")
    config.model.mask_head.enabled = True
    return config
