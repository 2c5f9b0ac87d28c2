"""LGA R-CNN with a Swin-T and an FPN on COCO 2017.

    python train.py --config configs/coco_swin_t.py --workdir runs/coco_swin_t \
        --config.model.init_from=hf://timm/swin_tiny_patch4_window7_224.ms_in1k/model.safetensors

AdamW, 12 epochs, single scale. MMDetection's Mask R-CNN with this backbone reports a box AP of 42.7 after 12 epochs,
with the same stochastic depth.

Expected AP: not measured yet.
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from


def get_config() -> ConfigDict:
    config = start_from("coco")
    config.model.backbone = ConfigDict(
        dict(
            name="swin",
            variant="tiny",  # "tiny", "small", "base"; init_from must be of the same
            version=1,  # 1 (windows of 7 x 7 cells), or 2 (8 x 8; cosine attention, layer norms behind the layers)
            frozen_stages=0,  # 0: none, 1: stem, 2: stem and stage 1, ... 5: all
            remat=False,  # True: less memory and more time, the backward pass computes each block again
            stochastic_depth=0.2,  # share of the images in which a step skips a layer of the last block; earlier: less
        )
    )

    config.optim.optimizer = "adamw"
    config.optim.lr = 1e-4
    config.optim.weight_decay = 0.05
    return config
