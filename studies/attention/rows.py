"""The rows of the study and the settings of its data sets. Plain values, without jax.

A row is one form of attention. All rows of a data set share the images, their order, the initial weights of common
parts, the schedule and the sampling.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import bccd, challenge, coco_json_small, neu_det

VERSION = 2  # increase it if equal settings give another run; 2: other initial weights of the RoI stage


class Row(NamedTuple):
    """One form of attention."""

    text: str
    attention: str = "lga"  # one of the library, or "auxiliary": no masks, only the guide's classifier
    num_masks: int = 4
    sigma: str = "per_axis"  # "isotropic"
    fusion: str = "sum"  # "concat", "union": x (1 + 1 - prod_k (1 - M_k)), in which overlapping masks add little
    # "shared"; "joint": one linear layer over all k masked averages; "subsets": it answers from every subset of them
    classifier: str = "per_mask"
    guide_weight: float = 0.5
    guide_rois: str = "all"  # "foreground"
    guide_into: str = "all"  # target of the guide's gradient; "masks": not the pooled features, "head": not the crops
    centres: str = "dense"  # "softmax": mean position of a heat map per mask, in the range of eq. 1
    centre_lr: float = 1.0  # factor on the learning rate of the layer for the centres
    overlap_weight: float = 0.0  # weight of the mean cosine between the masks of a RoI
    guide_sees: str = "pyramid"  # "c2": the guide pools the backbone's first stage; "close_up": looks closer
    crop_size: int = 7  # cells; 14: attention on 14 x 14 cells, averaged to 7 x 7 for the box head
    close_up_points: int = 6  # per side of a close-up
    soft_sigma: bool = False  # sigma = softplus(.) + 0.5 instead of ReLU(.) + 1


# Forms with separate masks on the part that identifies the class. CLOSER is the library's default. CROPS was it before;
# many rows below change one setting of it.
LOCAL: dict[str, Any] = dict(centres="softmax", classifier="joint", guide_sees="c2")
CROPS = LOCAL | dict(guide_rois="foreground")
CLOSER = CROPS | dict(guide_sees="close_up")

ROWS: dict[str, Row] = {
    "none": Row("no attention", attention="none"),
    "lga": Row("LGA: the guide reads masked crops of the first stage", **CROPS),
    "lga_paper": Row(
        "the paper's letter: shared classifier, one sigma per mask", sigma="isotropic", classifier="shared"
    ),
    "auxiliary": Row("no masks: the guide's classifier on the whole crop", attention="auxiliary", num_masks=1),
    "auxiliary_local": Row(
        "no masks: such a classifier on the first stage, foreground RoIs",
        attention="auxiliary",
        num_masks=1,
        guide_sees="c2",
        guide_rois="foreground",
    ),
    "no_guide": Row("masks without the guide", guide_weight=0.0),
    "cbam": Row("CBAM", attention="cbam"),
    "non_local": Row("non-local block", attention="non_local"),
    "squeeze_excitation": Row("squeeze-and-excitation", attention="squeeze_excitation"),
    "deformable": Row("deformable RoI pooling, modulated", attention="deformable"),
    # Every mask is read again from the first stage.
    "close_up_guide": Row("LGA, the library's default: the guide reads close-ups of the masks", **CLOSER),
    "close_up_small": Row("the same with 4 x 4 points instead of 6 x 6", **CLOSER, close_up_points=4),
    "close_up_soft": Row("the guide reads close-ups, sigma = softplus(.) + 0.5", **CLOSER, soft_sigma=True),
    # Two changes that may give every mask work (PLAN.md).
    "subsets": Row("the guide answers from every subset of the masks", **CROPS | dict(classifier="subsets")),
    "soft_sigma": Row("`lga` with sigma = softplus(.) + 0.5", **CROPS, soft_sigma=True),
    # Single changes that may separate the masks, starting from one classifier per mask.
    "per_mask": Row("one classifier per mask, a sigma per axis"),
    "shared": Row("classifier shared by the masks", classifier="shared"),
    "joint": Row("one classifier over all masked poolings", classifier="joint"),
    "guide_masks": Row("guide stopped at the pooled features", guide_into="masks"),
    "guide_head": Row("guide and masks stopped at the crops", guide_into="head"),
    "softmax": Row("centres from a spatial softmax", centres="softmax"),
    "local": Row("guide on the backbone's first stage", guide_sees="c2"),
    "slow_centres": Row("a tenth of the learning rate for the centres", centre_lr=0.1),
    "overlap": Row("penalty of 0.1 on the masks' overlap", overlap_weight=0.1),
    # Combinations.
    "joint_masks": Row(
        "joint classifier, guide stopped at the pooled features", classifier="joint", guide_into="masks"
    ),
    "softmax_masks": Row("spatial softmax, guide stopped at the features", centres="softmax", guide_into="masks"),
    "softmax_joint": Row("spatial softmax, joint classifier", centres="softmax", classifier="joint"),
    "softmax_joint_masks": Row(
        "spatial softmax, joint classifier, guide stopped at the features",
        centres="softmax",
        classifier="joint",
        guide_into="masks",
    ),
    "local_joint": Row("guide on the first stage, joint classifier", classifier="joint", guide_sees="c2"),
    "local_softmax": Row("guide on the first stage, spatial softmax", centres="softmax", guide_sees="c2"),
    "local_softmax_joint": Row("guide on the first stage, spatial softmax, joint classifier", **LOCAL),
    "local_masks": Row("the same, guide stopped at the first stage's features", **LOCAL, guide_into="masks"),
    "local_0.1": Row("the same, guide weight 0.1", **LOCAL, guide_weight=0.1),
    "softmax_no_guide": Row("masks without the guide, spatial softmax", centres="softmax", guide_weight=0.0),
    # `lga` with one change.
    "k1": Row("1 mask", **CROPS, num_masks=1),
    "k2": Row("2 masks", **CROPS, num_masks=2),
    "k8": Row("8 masks", **CROPS, num_masks=8),
    "isotropic": Row("one sigma per mask", **CROPS, sigma="isotropic"),
    "concat": Row("fusion by concatenation", **CROPS, fusion="concat"),
    "union": Row("fusion by the masks' union", **CROPS, fusion="union"),
    "weight_0.1": Row("guide weight 0.1", **CROPS, guide_weight=0.1),
    "weight_1": Row("guide weight 1", **CROPS, guide_weight=1.0),
    "weight_2": Row("guide weight 2", **CROPS, guide_weight=2.0),
    "stopped": Row("guide stopped at the first stage's features", **CROPS, guide_into="masks"),
    "crop14": Row("crops of 14 cells", **CROPS, crop_size=14),
    "none_crop14": Row("no attention, crops of 14 cells averaged to 7", attention="none", crop_size=14),
}


def challenge_config() -> ConfigDict:
    """128 pixels, ResNet-18 with a quarter of the width and random weights: about four minutes on one core."""
    config = challenge.get_config()
    config.batch_size = 8
    config.num_steps = 1000
    for part in ("train", "eval"):
        config.data[part].image_hw = (128, 128)
    config.data.eval.num_images = 700
    _square(config, 128)
    config.model.backbone.width = 16
    config.model.fpn.channels = 64
    config.model.proposals.update(pre_nms_train=100, pre_nms_test=100, post_nms_train=100, post_nms_test=60)
    config.model.roi_sampling.num_samples = 32
    config.optim.lr_batch_size = 8
    return config


def bccd_config() -> ConfigDict:
    """Short edge 192, ResNet-18 with ImageNet weights."""
    config = bccd.get_config()
    config.num_steps = 438  # 6 epochs
    config.data.short_edges = (192,)
    config.data.eval_short_edge = 192
    config.data.long_edge = 256
    config.data.buckets = ((192, 256),)
    config.model.anchors.sizes = (12, 24, 48, 96, 192)
    _small_heads(config)
    return config


def neu_det_config() -> ConfigDict:
    """128 pixels, ResNet-18 with ImageNet weights."""
    config = neu_det.get_config()
    config.num_steps = 540  # 3 epochs
    _square(config, 128)
    config.model.anchors.sizes = (12, 24, 48, 96, 192)
    _small_heads(config)
    return config


def cards_config() -> ConfigDict:
    """288 pixels, EfficientNet-Lite0 with ImageNet weights; classes that differ in a small index in a corner."""
    config = bccd.get_config()
    small = coco_json_small.get_config().model
    config.num_steps = 888  # 12 epochs
    for part, name in (("train", "train"), ("eval", "test")):
        config.data[part].annotations = f"annotations/{name}.json"
    _square(config, 288)
    config.data.flip_probability = 0.0  # a mirrored index is not one of a card
    for key in ("backbone", "pixel_mean", "pixel_std"):
        config.model[key] = small[key]
    config.model.anchors.sizes = (16, 32, 64, 128, 256)
    _small_heads(config)
    return config


def cards_search_config() -> ConfigDict:
    """Training and evaluation on parts of the training images, to choose a form without the test images."""
    config = cards_config()
    config.data.eval.annotations = config.data.train.annotations
    config.num_steps = 666  # 12 epochs of three quarters of the images
    return config


def challenge_confirm_config() -> ConfigDict:
    """Held-out images that no earlier choice has seen."""
    config = challenge_config()
    config.data.eval.seed += 1_000
    return config


DATA = {
    "challenge": challenge_config,
    "challenge_confirm": challenge_confirm_config,
    "bccd": bccd_config,
    "neu_det": neu_det_config,
    "cards": cards_config,
    "cards_search": cards_search_config,
}
GENERATED = ("challenge", "challenge_confirm")
# The images whose number in the annotation file is a multiple of it are the evaluation part.
SPLITS = {"cards_search": 4}
FOLDERS = {"cards_search": "cards"}  # in --data_root, if not the name of the data
# Backbone weights that are part of an installable package; other photographs start from --weights.
WEIGHTS = {"cards": "package://efficientnet_lite0", "cards_search": "package://efficientnet_lite0"}


def resolve(
    data: str, row: Row, root: str = "", weights: str = "", overrides: Mapping[str, Any] | None = None
) -> ConfigDict:
    """The whole configuration of a run without its seed.

    Args:
        root: folder with bccd/, neu_det/ and cards/.
        weights: backbone weights for the data sets that do not start from random weights.
        overrides: values by dotted name, for trials of the study.
    """
    config = DATA[data]()
    config.checkpoint_every = config.num_steps
    config.eval_every = 0
    config.data.num_workers = 1
    if data not in GENERATED:
        for part in ("train", "eval"):
            config.data[part].root = str(Path(root) / FOLDERS.get(data, data))
        config.model.init_from = WEIGHTS.get(data, weights)
    set_row(config, row)
    config.update_from_flattened_dict(dict(overrides or {}))
    return config


def set_row(config: ConfigDict, row: Row) -> None:
    """Sets the values of a recipe that the row chooses."""
    model = config.model
    model.attention = "lga" if row.attention == "auxiliary" else row.attention
    model.roi_align.crop_size = row.crop_size
    model.lga.update(num_masks=row.num_masks, mu=row.centres, sigma=row.sigma)
    model.lga.update(
        classifier="joint" if row.classifier in ("joint", "subsets") else "shared",
        guide_level=row.guide_sees,
        close_up_points=row.close_up_points,
    )
    model.lga.fusion = "concat" if row.fusion == "concat" else "sum"
    config.losses.guide_weight = row.guide_weight
    config.losses.guide_rois = row.guide_rois


def digest(config: ConfigDict, row: Row) -> str:
    """Digest of all settings that affect the result, without the seed and the paths of data and weights.

    It covers only fields of the row that differ from their defaults, so earlier runs stay valid after a new field.
    """
    config = config.copy_and_resolve_references()
    config.seed = 0
    del config.images_at_once  # affects memory only
    for part in ("train", "eval"):
        if "root" in config.data[part]:
            config.data[part].root = ""
    config.model.init_from = Path(config.model.init_from).name
    if row.guide_sees != "close_up":  # keys that came later and have no effect
        del config.model.lga.close_up_points, config.model.lga.close_up_channels
    default = Row("")
    changed = {
        name: value for name, value in row._asdict().items() if name != "text" and value != getattr(default, name)
    }
    settings = json.dumps([VERSION, config.to_dict(), changed], sort_keys=True)
    return hashlib.sha256(settings.encode()).hexdigest()[:12]


def _square(config: ConfigDict, side: int) -> None:
    config.data.short_edges = (side,)
    config.data.eval_short_edge = side
    config.data.long_edge = side
    config.data.buckets = ((side, side),)


def _small_heads(config: ConfigDict) -> None:
    config.model.fpn.channels = 64
    config.model.anchor_sampling.num_samples = 128
    config.model.proposals.update(pre_nms_train=200, pre_nms_test=200, post_nms_train=200, post_nms_test=100)
    config.model.roi_sampling.num_samples = 64
    config.model.lga.update(reduced_channels=32, hidden=128)
    config.model.box_head.hidden = 256
    config.inference.max_candidates = 200
    config.optim.warmup_steps = 50
