"""Detectron2's `faster_rcnn_R_50_FPN_3x` on COCO 2017: configs/coco_detectron2_1x.py for three times as long.

    python train.py --config configs/coco_detectron2_3x.py --workdir runs/coco_detectron2_3x \
        --config.model.init_from=R-50.pkl

R-50.pkl are MSRA's ImageNet weights: https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl. The
published detector, to be scored, used or trained further (MODEL_ZOO.md of Detectron2, model id 137849458):

    lga_jax import-weights --config coco_detectron2_3x --weights model_final_280758.pkl \
        --workdir runs/coco_detectron2_3x_published

Published AP: 40.2. Expected AP: not measured yet.
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from


def get_config() -> ConfigDict:
    config = start_from("coco_detectron2_1x")
    config.num_steps = 270_000
    config.optim.milestones = (210_000, 250_000)
    return config
