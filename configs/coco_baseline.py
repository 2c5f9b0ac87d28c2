"""configs/coco.py without LGA: plain Faster R-CNN with FPN, the other half of the comparison.

    python train.py --config configs/coco_baseline.py --workdir runs/coco_baseline \
        --config.model.init_from=hf://timm/resnet50.tv_in1k/model.safetensors

CBAM or a non-local block at the same place: --config.model.attention=cbam or non_local.

Expected AP: not measured yet. Detectron2's `faster_rcnn_R_50_FPN_1x`, whose schedule this is, reports 37.9; with its
network and weights it is configs/coco_detectron2_1x.py.
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from


def get_config() -> ConfigDict:
    config = start_from("coco")
    config.model.attention = "none"
    return config
