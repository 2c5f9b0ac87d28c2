"""LGA R-CNN with a ConvNeXt-T and an FPN on COCO 2017.

    python train.py --config configs/coco_convnext_t.py --workdir runs/coco_convnext_t \
        --config.model.init_from=hf://timm/convnext_tiny.fb_in1k/model.safetensors

AdamW, 12 epochs, single scale. MMDetection's Mask R-CNN with this backbone reports a box AP of 46.2 after 36 epochs
with multi-scale training and a stochastic depth of 0.4; here it is 0.

Expected AP: not measured yet.
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from


def get_config() -> ConfigDict:
    config = start_from("coco")
    config.model.backbone = ConfigDict(
        dict(
            name="convnext",
            variant="tiny",  # "tiny", "small", "base"; init_from must be of the same
            frozen_stages=0,  # 0: none, 1: stem, 2: stem and stage 1, ... 5: all
            remat=False,  # True: less memory and more time, the backward pass computes each block again
            stochastic_depth=0.0,  # share of the images in which a step skips the last block; earlier blocks: less
        )
    )

    config.optim.optimizer = "adamw"
    config.optim.lr = 1e-4
    config.optim.weight_decay = 0.05
    config.optim.backbone_decay = 0.95
    return config
