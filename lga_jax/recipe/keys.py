"""The keys of a recipe and their rules, in the order of configs/coco.py, which explains each key.

The choices are the options of the configured modules; tests/recipe/test_keys.py checks this.
"""

from collections.abc import Mapping
from typing import Any

from lga_jax.recipe.rule import Rule, choice, flag, number, optional, path, several, text, unset_or, whole

ATTENTIONS = ("lga", "cbam", "non_local", "squeeze_excitation", "deformable", "none")
NORMS = ("frozen_bn", "bn", "gn")
NUM_LEVELS = 5  # P2..P6, the pyramid of every backbone of the library
# Upper limits. They are far above any use, and bound what a checkpoint of a stranger can ask for.
MAX_BUCKET = 2**26  # pixels, 8192 x 8192
MAX_BUCKETS = 64  # each has its own compiled program
_IMAGES, _SIDE, _THREADS, _BOXES = 2**16, 2**15, 1024, 100_000
_CHANNELS, _HIDDEN, _LAYERS, _STAGES = 4096, 65_536, 64, 8
MAX_JITTER = 4  # the whole image is enlarged before the crop: up to 16 times the pixels of its bucket
CHALLENGES = (
    "plain",
    "complex_environment",
    "intra_class_variance",
    "inter_class_similarity",
    "scale",
    "motion_blur",
    "camouflage",
)


def _buckets(expected: str, least: int) -> Rule:
    pair = several(whole(1, _SIDE), "", least=2, most=2)

    def accept(value: Any) -> tuple[int, int]:
        height, width = pair.accept(value)
        if height * width > MAX_BUCKET:
            raise ValueError
        return height, width

    limits = f"at most {MAX_BUCKETS}, each of at most {MAX_BUCKET:,} pixels"
    return several(Rule("", accept), f"{expected}, {limits}", least=least, most=MAX_BUCKETS)


def _jitter() -> Rule:
    factors = several(number(most=MAX_JITTER, above=0), "")

    def accept(value: Any) -> tuple[float, ...]:
        found = factors.accept(value)
        if len(found) not in (0, 2) or list(found) != sorted(found):
            raise ValueError
        return found

    return Rule(f"(), or (lowest, highest) factor, above 0 and at most {MAX_JITTER}, as (0.1, 2.0)", accept)


def _sides() -> Rule:
    pair = several(whole(1, _SIDE), "", least=2, most=2)

    def accept(value: Any) -> tuple[int, int]:
        lowest, highest = pair.accept(value)
        if lowest > highest:
            raise ValueError
        return lowest, highest

    return Rule("(shortest, longest) side in whole pixels, as (400, 800)", accept)


def _function() -> Rule:
    plain = text(may_be_empty=True)

    def accept(value: Any) -> str:
        place, _, name = plain.accept(value).rpartition(":")
        if value and not (place and name.isidentifier()):
            raise ValueError
        return value

    return Rule("a function, as 'FILE.py:NAME' or 'MODULE:NAME', or ''", accept, is_text=True)


def _no_parts(value: Any) -> Any:
    """Rejects every value: existing parts follow the rules of their settings, see `_source_rules`."""
    raise ValueError


_COUNT = whole(1)
_SHARE = number(0, 1)
_IOU = number(0, 1)
_BOX_LOSSES = ("l1", "giou", "diou", "ciou")
_COLOURS = "three numbers (red, green, blue)"

KEYS: dict[str, Rule] = {
    "seed": whole(0, 2**32 - 1),
    "batch_size": whole(1, _IMAGES),
    "images_at_once": whole(0, _IMAGES),
    "num_steps": _COUNT,
    "log_every": _COUNT,
    "tracker": choice("", "wandb", "mlflow"),
    "checkpoint_every": _COUNT,
    "eval_every": whole(0),
    "eval_losses": flag(),
    "eval_raw": flag(),
    "early_stopping.patience": whole(0, 10_000),
    "early_stopping.metric": choice("AP", "loss"),
    "data.short_edges": several(whole(1, _SIDE), "one length or more in whole pixels, as (640, 800)", least=1),
    "data.eval_short_edge": whole(1, _SIDE),
    "data.long_edge": whole(1, _SIDE),
    "data.size_rounding": choice("nearest", "floor"),
    "data.resize": choice("bilinear", "antialias"),
    "data.scale_jitter": _jitter(),
    "data.object_crop": _SHARE,
    "data.flip_probability": _SHARE,
    "data.quarter_turns": _SHARE,
    "data.photometric": _SHARE,
    "data.blur": _SHARE,
    "data.jpeg": _SHARE,
    "data.copy_paste": _SHARE,
    "data.object_crop_sides": _sides(),
    "data.transform": _function(),
    "data.repeat_threshold": _SHARE,
    "data.buckets": _buckets("pairs of (height, width) in whole pixels, as ((800, 1344),)", least=1),
    "data.eval_buckets": _buckets("(), or pairs of (height, width) in whole pixels, as ((800, 1344),)", least=0),
    "data.max_boxes": unset_or(whole(1, _BOXES)),
    "data.max_faulty": _SHARE,
    "data.num_workers": whole(1, _THREADS),
    "data.prefetch": whole(0, _THREADS),
    "model.dtype": choice("float32", "bfloat16"),
    "model.pixel_mean": several(number(0, 255), f"{_COLOURS} from 0 to 255", least=3, most=3),
    "model.pixel_std": several(number(above=0), f"{_COLOURS} above 0", least=3, most=3),
    "model.init_from": path(
        "a file of weights, hf://ORG/REPO/FILE, package://NAME, a workdir, or ''", may_be_empty=True
    ),
    "model.init_strict": flag(),
    "model.fpn.channels": whole(1, _CHANNELS),
    "model.fpn.norm": choice("none", *NORMS),
    "model.anchors.sizes": several(
        number(above=0),
        "sizes in pixels, one for each pyramid level, as (32, 64, 128, 256, 512)",
        least=2,
        most=16,
    ),
    "model.anchors.aspect_ratios": several(number(above=0), "1 to 64 numbers above 0, as (0.5, 1.0)", least=1, most=64),
    "model.anchors.rounded": flag(),
    "model.anchors.fixed_stride": flag(),
    "model.rpn.num_convs": whole(1, _LAYERS),
    "model.anchor_sampling.num_samples": whole(1, _BOXES),
    "model.anchor_sampling.positive_fraction": _SHARE,
    "model.anchor_sampling.positive_iou": _IOU,
    "model.anchor_sampling.negative_iou": _IOU,
    "model.proposals.pre_nms_train": whole(1, _BOXES),
    "model.proposals.pre_nms_test": whole(1, _BOXES),
    "model.proposals.post_nms_train": whole(1, _BOXES),
    "model.proposals.post_nms_test": whole(1, _BOXES),
    "model.proposals.nms_iou": _IOU,
    "model.proposals.min_size": number(0),
    "model.roi_sampling.num_samples": whole(1, _BOXES),
    "model.roi_sampling.positive_fraction": _SHARE,
    "model.roi_sampling.positive_iou": _IOU,
    "model.cascade.attentions": several(
        choice(*ATTENTIONS), f"an attention per later stage ({', '.join(ATTENTIONS)}), or ()"
    ),
    "model.cascade.positive_ious": several(
        _IOU, "a number from 0 to 1 per later stage, as (0.6, 0.7), or ()", most=_STAGES
    ),
    "model.cascade.coder_scales": several(
        number(above=0), "a number above 0 per later stage, as (2.0, 3.0), or ()", most=_STAGES
    ),
    "model.cascade.loss_weights": several(
        number(0), "a number of at least 0 per later stage, as (0.5, 0.25), or ()", most=_STAGES
    ),
    "model.roi_align.crop_size": whole(1, 64),
    "model.roi_align.sampling_ratio": whole(0, 64),
    "model.roi_align.aligned": flag(),
    "model.attention": choice(*ATTENTIONS),
    "model.lga.num_masks": whole(1, 1024),
    "model.lga.reduced_channels": whole(1, _CHANNELS),
    "model.lga.hidden": whole(1, _HIDDEN),
    "model.lga.mu": choice("softmax", "dense"),
    "model.lga.sigma": choice("per_axis", "isotropic"),
    "model.lga.fusion": choice("sum", "concat"),
    "model.lga.classifier": choice("joint", "shared"),
    "model.lga.guide_level": choice("close_up", "c2", "pyramid"),
    "model.lga.close_up_points": whole(1, 32),
    "model.lga.close_up_channels": whole(1, _CHANNELS),
    "model.cbam.reduction": whole(1, _CHANNELS),
    "model.cbam.kernel_size": whole(1, 64),
    "model.non_local.reduction": whole(1, _CHANNELS),
    "model.squeeze_excitation.reduction": whole(1, _CHANNELS),
    "model.deformable.hidden": whole(1, _HIDDEN),
    "model.deformable.scale": number(above=0),
    "model.deformable.samples": whole(1, 64),
    "model.deformable.modulated": flag(),
    "model.box_head.num_convs": whole(0, _LAYERS),
    "model.box_head.num_fcs": whole(1, _LAYERS),
    "model.box_head.hidden": whole(1, _HIDDEN),
    "model.box_head.norm": choice("none", *NORMS),
    "model.box_head.dense_init": choice("detectron2", "torchvision"),
    "model.box_head.class_agnostic": flag(),
    "model.mask_head.enabled": flag(),
    "model.mask_head.num_convs": whole(0, _LAYERS),
    "model.mask_head.channels": whole(1, _CHANNELS),
    "model.mask_head.norm": choice("none", *NORMS),
    "model.mask_head.crop_size": whole(1, 64),
    "model.mask_head.sampling_ratio": whole(0, 64),
    "losses.rpn_box": choice(*_BOX_LOSSES),
    "losses.rpn_box_beta": number(0),
    "losses.rpn_box_weight": number(0),
    "losses.roi_class": choice("cross_entropy", "focal"),
    "losses.focal_gamma": number(0, 100),
    "losses.label_smoothing": number(0, below=1),
    "losses.class_weights": several(number(0, 1e6), "a number of at least 0 per class, as (1.0, 2.5), or ()"),
    "losses.balance_classes": flag(),
    "losses.federated": flag(),
    "losses.roi_box": choice(*_BOX_LOSSES),
    "losses.roi_box_beta": number(0),
    "losses.roi_box_weight": number(0),
    "losses.guide_weight": number(0),
    "losses.mask_weight": number(0),
    "losses.guide_rois": choice("foreground", "all"),
    "dynamic.window": whole(0, 100_000),
    "dynamic.iou_rank": whole(1, _BOXES),
    "dynamic.error_rank": whole(1, _BOXES),
    "inference.score_threshold": _SHARE,
    "inference.nms_iou": _IOU,
    "inference.max_candidates": whole(1, _BOXES),
    "inference.min_size": number(0),
    "inference.max_detections": whole(1, _BOXES),
    "optim.optimizer": choice("sgd", "adamw"),
    "optim.lr": number(above=0),
    "optim.lr_batch_size": _COUNT,
    "optim.momentum": number(0, below=1),
    "optim.weight_decay": number(0),
    "optim.norm_weight_decay": number(0),
    "optim.schedule": choice("step", "cosine"),
    "optim.milestones": several(whole(1), "steps in ascending order, as (60000, 80000), or ()"),
    "optim.decay_factor": number(0, 1),
    "optim.warmup_steps": whole(0),
    "optim.warmup_factor": number(0, 1),
    "optim.backbone_decay": number(most=1, above=0),
    "optim.clip_norm": number(0),
    "optim.ema_decay": number(0, below=1),
}

# The keys of model.backbone depend on its `name`.
BACKBONES: dict[str, dict[str, Rule]] = {
    "resnet": {
        "depth": choice(18, 34, 50, 101, 152),
        "width": whole(1, _CHANNELS),
        "norm": choice(*NORMS),
        "norm_eps": number(0),
        "stride_in_1x1": flag(),
        "frozen_stages": whole(0, 5),
        "remat": flag(),
    },
    "efficientnet_lite": {
        "variant": choice(0, 1, 2),
        "norm": choice(*NORMS),
        "norm_eps": number(0),
        "frozen_stages": whole(0, 5),
        "remat": flag(),
    },
    "convnext": {
        "variant": choice("tiny", "small", "base"),
        "frozen_stages": whole(0, 5),
        "remat": flag(),
        "stochastic_depth": optional(number(0, below=1)),
    },
    "swin": {
        "variant": choice("tiny", "small", "base"),
        "version": choice(1, 2),
        "frozen_stages": whole(0, 5),
        "remat": flag(),
        "stochastic_depth": optional(number(0, below=1)),
    },
    "vit": {
        "variant": choice("small", "base"),
        "frozen_stages": whole(0, 5),
        "remat": flag(),
        "stochastic_depth": optional(number(0, below=1)),
    },
}
# The settings of data.train and data.eval depend on their `source`.
SOURCES: dict[str, dict[str, Rule]] = {
    "coco_json": {
        "root": path("a folder"),
        "annotations": path("an annotation file, relative to root"),
        "images": path("a folder of images, relative to root", may_be_empty=True),
        "skip_empty": flag(),
    },
    "tfds": {
        "name": text("the name of a prepared set, as 'coco/2017'"),
        "data_dir": path("the folder of prepared sets"),
        "split": text("a split, as 'train' or 'train[:10%]'"),
        "skip_empty": flag(),
    },
    "mixed": {
        "parts": Rule("at least one part, as dict(NAME=dict(source=..., weight=1.0, ...))", _no_parts),
        "classes": optional(text("the name of a part, or ''", may_be_empty=True)),
    },
    "challenge": {
        "num_images": _COUNT,
        "seed": optional(whole(0, 2**63 - 1)),
        "image_hw": optional(several(whole(64), "(height, width), whole pixels of at least 64", least=2, most=2)),
        "challenges": optional(several(choice(*CHALLENGES), f"some of {', '.join(CHALLENGES)}", least=1)),
        "severities": optional(several(choice(1, 2, 3), "some of 1, 2, 3", least=1)),
        "min_objects": optional(_COUNT),
        "max_objects": optional(_COUNT),
    },
}
SOURCES_WITH_MASKS = ("coco_json", "challenge", "mixed")  # which can have masks of objects
PART_WEIGHT = number(most=1000, above=0)  # uses of each image per epoch; limited, because an epoch is stored in memory
_SOURCE = choice(*SOURCES)
_BACKBONE = choice(*BACKBONES)


def rules_of(nested: Mapping[str, Any]) -> dict[str, Rule]:
    """The rules of all keys of a recipe (nested mappings). Some depend on its sources and its backbone.

    If a source or backbone does not exist, only its name has a rule.
    """
    data, model = (section if isinstance(section, Mapping) else {} for section in map(nested.get, ("data", "model")))
    sources = _source_rules("data.train", data.get("train")) | _source_rules("data.eval", data.get("eval"))
    backbone = model.get("backbone")
    name = backbone.get("name") if isinstance(backbone, Mapping) else None
    others = BACKBONES[name] if name in _BACKBONE.choices else {}
    backbone_rules = {f"model.backbone.{key}": rule for key, rule in {"name": _BACKBONE, **others}.items()}
    return KEYS | sources | backbone_rules


def _source_rules(place: str, settings: Any) -> dict[str, Rule]:
    """The rules of data.train, data.eval or a part of a mixed source; `place` is its key."""
    rules = {f"{place}.source": _SOURCE}
    if not isinstance(settings, Mapping) or settings.get("source") not in _SOURCE.choices:
        return rules
    kind = settings["source"]
    rules |= {f"{place}.{name}": rule for name, rule in SOURCES[kind].items()}
    parts = settings.get("parts")
    if kind == "mixed" and isinstance(parts, Mapping) and parts:
        del rules[f"{place}.parts"]
        for name, part in parts.items():
            rules |= {f"{place}.parts.{name}.weight": PART_WEIGHT} | _source_rules(f"{place}.parts.{name}", part)
    return rules
