"""Mask R-CNN with a ResNet-50-FPN on COCO 2017, LGA on the box features: boxes and masks of objects.

    python train.py --config configs/coco_mask.py --workdir runs/coco_mask \
        --config.model.init_from=hf://timm/resnet50.tv_in1k/model.safetensors

The recipe of configs/coco.py with the mask head of Mask R-CNN (He et al. 2017). The schedule, sampling and losses are
those of Detectron2's `mask_rcnn_R_50_FPN_1x`.

Expected AP: not measured yet. Detectron2 reports 38.6 (boxes) and 35.2 (masks) for its recipe without attention.
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from


def get_config() -> ConfigDict:
    config = start_from("coco")
    config.model.mask_head.enabled = True
    return config
