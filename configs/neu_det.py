"""LGA R-CNN on NEU-DET (surface defects of hot-rolled steel, Song and Yan 2013), on a laptop's CPU.

    python train.py --config configs/neu_det.py --workdir runs/neu_det --config.model.init_from=resnet18.npz
    python eval.py --config configs/neu_det.py --workdir runs/neu_det

1,440 images for training and 360 for validation, 200 x 200 pixels, six classes, as COCO JSON under data/neu_det.
ResNet-18 with ImageNet weights, 5 epochs. Expected AP: not measured; docs/study.md has 3 epochs of smaller images.
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from


def get_config() -> ConfigDict:
    config = start_from("bccd")
    config.batch_size = 8
    config.num_steps = 900  # 5 epochs
    config.checkpoint_every = 180  # an epoch
    config.eval_every = 450

    for part, name in (("train", "train"), ("eval", "val")):
        config.data[part].root = "data/neu_det"
        config.data[part].annotations = f"annotations/{name}.json"
    config.data.short_edges = (200,)
    config.data.eval_short_edge = 200
    config.data.long_edge = 200
    config.data.buckets = ((224, 224),)

    config.model.roi_sampling.num_samples = 64

    config.optim.lr_batch_size = 8
    return config
