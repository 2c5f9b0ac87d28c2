"""torchvision's `fasterrcnn_resnet50_fpn` on COCO 2017: Faster R-CNN with its network, its pixels and its schedule.

    python train.py --config configs/coco_torchvision_v1.py --workdir runs/coco_torchvision_v1 \
        --config.model.init_from=hf://timm/resnet50.tv_in1k/model.safetensors

The published detector (https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth), to be scored,
used or trained further:

    lga_jax import-weights --config coco_torchvision_v1 --config.model.backbone.norm_eps=0 \
        --weights fasterrcnn_resnet50_fpn_coco-258fb6c6.pth --workdir runs/coco_torchvision_v1_published

These weights were made without an epsilon in the frozen norms; torchvision trains with 1e-5 today, and so does this
recipe. Give `eval.py` and `train.py` the same value.

Published AP: 37.0. Expected AP: not measured yet.
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from

NUM_IMAGES = (
    117_266  # images of train2017 with a box (torchvision also requires a side above 1 pixel, as nearly all have)
)
EPOCH = NUM_IMAGES // 16  # steps


def get_config() -> ConfigDict:
    config = start_from("coco")
    config.num_steps = 26 * EPOCH

    config.data.short_edges = (800,)
    config.data.size_rounding = "floor"

    config.model.dtype = "float32"
    config.model.anchors.rounded = True
    config.model.anchors.fixed_stride = False
    config.model.proposals.post_nms_train = 2000
    config.model.proposals.min_size = 1e-3
    config.model.roi_align.aligned = False
    config.model.attention = "none"
    config.model.box_head.dense_init = "torchvision"

    config.losses.rpn_box_beta = 1 / 9
    config.losses.roi_box_beta = 1 / 9

    config.inference.min_size = 0.01

    config.optim.milestones = (16 * EPOCH, 22 * EPOCH)
    return config
