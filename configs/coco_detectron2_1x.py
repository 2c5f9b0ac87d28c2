"""Detectron2's `faster_rcnn_R_50_FPN_1x` on COCO 2017: Faster R-CNN with its network, its pixels and its schedule.

    python train.py --config configs/coco_detectron2_1x.py --workdir runs/coco_detectron2_1x \
        --config.model.init_from=R-50.pkl

R-50.pkl are MSRA's ImageNet weights: https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl. The
published detector, to be scored, used or trained further (MODEL_ZOO.md of Detectron2, model id 137257794):

    lga_jax import-weights --config coco_detectron2_1x --weights model_final_b275ba.pkl \
        --workdir runs/coco_detectron2_1x_published

Published AP: 37.9. Expected AP: not measured yet.
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from


def get_config() -> ConfigDict:
    config = start_from("coco")
    config.data.resize = "antialias"

    config.model.dtype = "float32"
    config.model.pixel_std = (1.0, 1.0, 1.0)
    config.model.backbone.stride_in_1x1 = True
    config.model.roi_align.sampling_ratio = 0
    config.model.attention = "none"
    return config
