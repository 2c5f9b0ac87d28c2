"""LGA R-CNN on COCO 2017 with 128 images in a step, for a TPU slice of 16 to 64 chips or several machines with GPUs.

    python train.py --config configs/coco_tpu.py --workdir runs/coco_tpu \
        --config.model.init_from=hf://timm/resnet50.tv_in1k/model.safetensors --coordinator_address auto

Hosts without a common disk need a workdir in a bucket (docs/scaling.md). One image size and two buckets, so two
programs. The schedule is that of Google's Mask R-CNN in MLPerf Training: with 128 images the rate falls at steps 9,750
and 13,000 (v0.7); the rate of an image and the warm-up are those of 256 images (v1.0: 0.24, 1,800 steps).

The box AP of those runs after each epoch shows whether a run is on its way, long before it ends (another network, with
a mask head and without attention, so expect a difference of some points):

    128 images:  .138 .213 .242 .267 .280 .280 .285 .301 .297 .295, and after the rate has fallen .363 .371
    256 images:  .056 .174 .208 .238 .259 .272 .293 .297 .303

A run below .18 after two epochs has a fault; docs/scaling.md says what to look for. Expected AP: not measured yet.
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from

EPOCH = 117_266 // 128  # steps; the images of train2017 with a box


def get_config() -> ConfigDict:
    config = start_from("coco")
    config.batch_size = 128
    config.num_steps = 16 * EPOCH
    config.checkpoint_every = EPOCH
    config.eval_every = EPOCH  # to compare with the curve above

    config.data.short_edges = (800,)

    config.optim.lr = 0.12
    config.optim.lr_batch_size = 128
    config.optim.warmup_steps = 1_800
    config.optim.milestones = (9_750, 13_000)
    return config
