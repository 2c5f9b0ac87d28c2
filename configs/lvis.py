"""Mask R-CNN with a ResNet-50-FPN on LVIS v1 (1,203 classes), LGA on the box features.

    data/coco/train2017, val2017                     the images of COCO 2017; LVIS divides them in another way
    data/coco/annotations/lvis_v1_train.json, lvis_v1_val.json

    python train.py --config configs/lvis.py --workdir runs/lvis \
        --config.model.init_from=hf://timm/resnet50.tv_in1k/model.safetensors
    python eval.py --config configs/lvis.py --workdir runs/lvis

Schedule, repeat factors, score threshold and the 300 detections are those of Detectron2's LVIS v1
`mask_rcnn_R_50_FPN_1x`; all else is that of configs/coco_mask.py. Each image of LVIS lists the classes that were looked
for in it. Background counts only for these in the class loss (losses.federated), which Detectron2's recipe does not do,
and in the score. The score has AP_rare, AP_common and AP_frequent (docs/data.md).

Expected AP: not measured here. MMDetection reports 22.5 (boxes) and 21.7 (masks) for Mask R-CNN with a ResNet-50, the
same repeat factors and its 1x schedule, without attention and with all classes in the loss.
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from


def get_config() -> ConfigDict:
    config = start_from("coco_mask")
    for part in ("train", "val"):
        section = config.data["eval" if part == "val" else part]
        section.annotations = f"annotations/lvis_v1_{part}.json"
        section.images = ""  # the files name their folder: train2017/000000391895.jpg
    config.data.repeat_threshold = 1e-3

    config.num_steps = 180_000
    config.eval_every = 30_000
    config.optim.milestones = (120_000, 160_000)

    # With so many classes a score is small: also that of the right one.
    config.inference.score_threshold = 1e-4
    config.inference.max_candidates = 3000
    config.inference.max_detections = 300
    return config
