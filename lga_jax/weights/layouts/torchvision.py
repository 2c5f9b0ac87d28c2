"""Layouts of torchvision's ResNets (timm uses the same names) and of its Faster R-CNN."""

import re

from lga_jax.weights.layouts.layout import (
    COCO_ANCHORS,
    MASK_COMPUTES,
    TORCH_LEAF,
    TORCH_LEAVES,
    Layout,
    namer,
    place,
)

# Settings of its detectors that parameter shapes do not show, as keys of config.model.
TORCHVISION_COMPUTES = COCO_ANCHORS | {
    "anchors.rounded": True,
    "anchors.fixed_stride": False,
    "roi_align.sampling_ratio": 2,
    "roi_align.aligned": False,
}
TORCHVISION_MASK_COMPUTES = MASK_COMPUTES | {"mask_head.sampling_ratio": 2}
# In the file names of torchvision's COCO_V1 weights (boxes, and masks), the only ones with frozen norms for an epsilon
# of 0.
COCO_V1_DIGESTS = ("258fb6c6", "bf2d0c1e")


def torchvision_resnet() -> Layout:
    """torchvision's and timm's ResNets: the backbone only."""
    return Layout(
        "torchvision's ResNet",
        ("backbone",),
        namer({"backbone": lambda module: [_backbone(module)]}, TORCH_LEAVES),
        backbone=re.compile(r"(?:conv1|bn1|layer[1-4])\."),
        plain=_plain(""),
        ignored=re.compile(r"(?:.*\.num_batches_tracked|fc\.\w+)$"),
        family="resnet",
        pixels="torchvision",
    )


def torchvision_detector(num_box_convs: int, is_coco_v1: bool = False, has_masks: bool = False) -> Layout:
    """torchvision's fasterrcnn_resnet50_fpn and its variants; `num_box_convs` is 4 in _v2, 0 in the first version.

    `has_masks`: maskrcnn_resnet50_fpn and its variants. `is_coco_v1`: the published weights of the first version. A
    renamed copy cannot be recognised.
    """

    def fpn(module: str) -> list[str]:
        block, level, norm = re.fullmatch(r"(lateral|output)(\d)(_norm)?", module).groups()
        block = f"backbone.fpn.{'inner' if block == 'lateral' else 'layer'}_blocks.{int(level) - 2}"
        return [f"{block}.1"] if norm else [f"{block}.0", block]

    def rpn(module: str) -> list[str]:
        if module.startswith("conv"):
            number = int(module.removeprefix("conv"))
            return [f"rpn.head.conv.{number - 1}.0", *(["rpn.head.conv"] if number == 1 else [])]
        return [f"rpn.head.{ {'objectness': 'cls_logits', 'deltas': 'bbox_pred'}[module] }"]

    def box_head(module: str) -> list[str]:
        if module in ("classes", "deltas"):
            return [f"roi_heads.box_predictor.{'cls_score' if module == 'classes' else 'bbox_pred'}"]
        kind, number, norm = re.fullmatch(r"(conv|fc)(\d+)(_norm)?", module).groups()
        if kind == "conv":
            return [f"roi_heads.box_head.{int(number) - 1}.{1 if norm else 0}"]
        # After n convolutions: a Flatten, then each dense layer and its ReLU.
        behind_convs = f"roi_heads.box_head.{num_box_convs + 2 * int(number) - 1}"
        return [behind_convs if num_box_convs else f"roi_heads.box_head.fc{int(number) + 5}"]

    parts = {
        "backbone": lambda module: [f"backbone.body.{_backbone(module)}"],
        "fpn": fpn,
        "rpn": rpn,
        "box_head": box_head,
    }
    if has_masks:
        parts["mask_head"] = _mask_head
    masks = "mask_" if has_masks else ""
    return Layout(
        f"torchvision's {'Mask' if has_masks else 'Faster'} R-CNN",
        tuple(parts),
        namer(parts, TORCH_LEAVES),
        backbone=re.compile(r"backbone\.body\."),
        plain=_plain(r"backbone\.body\."),
        # A model without a mask head takes the other parts of a Mask R-CNN.
        ignored=re.compile(rf".*\.num_batches_tracked$|{r'roi_heads.mask_' if has_masks else '$'}"),
        background_first=True,
        family="resnet",
        pixels="torchvision",
        computes=TORCHVISION_COMPUTES
        | {"backbone.norm_eps": 0.0 if is_coco_v1 else 1e-5}
        | (TORCHVISION_MASK_COMPUTES if has_masks else {}),
        loose=() if is_coco_v1 or num_box_convs else ("backbone.norm_eps",),
        recipe=f"configs/coco_{masks}torchvision_{'v2' if num_box_convs else 'v1'}.py",
    )


def _mask_head(module: str) -> list[str]:
    if module in ("deconv", "classes"):
        return [f"roi_heads.mask_predictor.{'conv5_mask' if module == 'deconv' else 'mask_fcn_logits'}"]
    number, norm = re.fullmatch(r"conv(\d+)(_norm)?", module).groups()
    name = f"roi_heads.mask_head.{int(number) - 1}.{1 if norm else 0}"
    return [name] if norm else [name, f"roi_heads.mask_head.mask_fcn{number}"]


def _backbone(module: str) -> str:
    stage, block, layer = place(module)
    layer = layer.replace("shortcut_conv", "downsample.0").replace("shortcut_norm", "downsample.1")
    layer = layer.replace("norm", "bn")
    return f"layer{stage}.{block}.{layer}" if stage else layer


def _plain(prefix: str) -> re.Pattern:
    block = r"layer[1-4]\.\d+\.(?:(?:conv|bn)[123]|downsample\.[01])"
    return re.compile(rf"{prefix}(?:conv1|bn1|{block}){TORCH_LEAF}")
