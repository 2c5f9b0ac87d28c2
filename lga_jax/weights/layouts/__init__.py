"""Parameter names in weight files, one module per project, and the recognition of files by their names."""

import re
from collections.abc import Collection, Mapping

import numpy as np

from lga_jax.errors import UserError, listed
from lga_jax.weights.layouts.caffe2 import caffe2_resnet
from lga_jax.weights.layouts.convnext import timm_convnext, torchvision_convnext
from lga_jax.weights.layouts.detectron2 import detectron2
from lga_jax.weights.layouts.efficientnet_pytorch import efficientnet_pytorch
from lga_jax.weights.layouts.layout import ALL_PARTS, Layout, Slot
from lga_jax.weights.layouts.own import own_layout
from lga_jax.weights.layouts.swin import timm_swin, torchvision_swin
from lga_jax.weights.layouts.torchvision import COCO_V1_DIGESTS, torchvision_detector, torchvision_resnet
from lga_jax.weights.layouts.vit import timm_vit, torchvision_vit

__all__ = ["Layout", "Slot", "recognise"]

_MASK_HEAD = r"roi_heads\.mask_head\."


def recognise(where: str, arrays: Mapping[str, np.ndarray]) -> Layout:
    """Recognises the layout of a file by its names. Raises UserError with the nearest known layout otherwise."""

    def has(pattern: str) -> bool:
        return any(re.match(pattern, name) for name in arrays)

    if has(rf"params/(?:{'|'.join(ALL_PARTS)})/"):
        return own_layout(arrays)
    if has(r"backbone\.body\.(?:conv1|layer\d)\."):
        _check_is_faster_rcnn(where, arrays, "torchvision", ("rpn.head.", "roi_heads.box_predictor.cls_score."))
        convs = {name.split(".")[2] for name in arrays if re.match(r"roi_heads\.box_head\.\d+\.0\.weight", name)}
        is_coco_v1 = not convs and any(digest in where for digest in COCO_V1_DIGESTS)
        return torchvision_detector(len(convs), is_coco_v1, has_masks=has(_MASK_HEAD))
    if has(r"backbone\.bottom_up\.(?:stem|res\d)\."):
        stages = {
            name.split(".")[2] for name in arrays if re.match(r"roi_heads\.box_predictor\.\d+\.cls_score\.", name)
        }
        predictor = f"roi_heads.box_predictor.{'0.' if stages else ''}cls_score."
        needed = ("backbone.fpn_lateral2.", "proposal_generator.rpn_head.", predictor)
        _check_is_faster_rcnn(where, arrays, "Detectron2", needed)
        return detectron2(detector=True, num_stages=len(stages), has_masks=has(_MASK_HEAD))
    if has(r"(?:stem\.conv1|res2\.0\.conv1)\."):
        return detectron2(detector=False)
    if has(r"(?:conv1_w|res2_0_branch2a_w)$"):
        return caffe2_resnet()
    if has(r"features\.\d+\.\d+\.layer_scale$"):
        return torchvision_convnext()
    if has(r"stages\.\d\.blocks\.\d+\.conv_dw\."):
        return timm_convnext()
    if has(r"features\.\d+\.\d+\.attn\.qkv\."):
        return torchvision_swin()
    if has(r"layers\.\d\.blocks\.\d+\.attn\.(?:relative_position_bias_table|logit_scale)$"):
        return timm_swin(merges_first=not has(r"layers\.0\.downsample\."))
    if has(r"encoder\.layers\.encoder_layer_\d+\.self_attention\."):
        return torchvision_vit()
    if has(r"blocks\.\d+\.attn\.qkv\.") and has(r"pos_embed$"):
        return timm_vit(augmented="augreg" in where)
    if has(r"_blocks\.\d+\._depthwise_conv\.weight$"):
        return efficientnet_pytorch(arrays)
    if has(r"conv1(?:\.0)?\.weight$|layer[1-4]\.\d+\.conv\d\.weight$"):
        return torchvision_resnet()
    raise UserError(
        f"weights {where}",
        expected="the names of torchvision, timm, Detectron2, Caffe2, EfficientNet-PyTorch or lga_jax",
        found=listed(sorted(arrays), 3),
        remedy=_nearest(arrays),
    )


def _check_is_faster_rcnn(where: str, arrays: Collection[str], whose: str, needed: tuple[str, ...]) -> None:
    missing = [prefix for prefix in needed if not any(name.startswith(prefix) for name in arrays)]
    if missing:
        raise UserError(
            f"weights {where}",
            expected=f"{whose}'s Faster R-CNN with FPN, the nearest known layout by names",
            found=f"another detector, without {missing[0]}*",
            remedy="use weights of this detector",
        )


_SIGNATURES = {
    r"layer1\.0\.conv1\.weight$": "torchvision's ResNet",
    r"res2\.0\.conv1\.weight$": "Detectron2's ResNet",
    r"res2_0_branch2a_w$": "Caffe2's ResNet",
    r"_blocks\.0\._depthwise_conv\.weight$": "EfficientNet-PyTorch's EfficientNet-Lite",
}
_FOREIGN = {
    r"neck\.lateral_convs|bbox_head\.(?:shared_fcs|fc_cls)|rpn_head\.rpn_conv": "MMDetection",
    r"transformer\.(?:encoder|decoder)\.layers": "a DETR",
    r"blocks\.\d+\.attn\.|layers\.\d+\.blocks\.": "a vision transformer",
    r"model\.\d+\.(?:conv|cv\d|m)\.": "a YOLO",
    r"stages\.\d+\.(?:blocks\.)?\d+\.|downsample_layers": "a ConvNeXt or ResNetV2",
    r"(?:^|\.)encoder\.stages\.\d+\.layers": "Hugging Face transformers",
    r"features\.\d+\.": "a MobileNet, VGG or EfficientNet",
}


def _nearest(names: Collection[str]) -> str:
    whose = next((title for pattern, title in _FOREIGN.items() if any(re.search(pattern, name) for name in names)), "")
    looks = f"this looks like {whose}, " if whose else ""
    for pattern, title in _SIGNATURES.items():
        for name in names:
            if found := re.search(pattern, name):
                prefix = name[: found.start()]
                return f"{looks}nearest known layout by names: {title} under the prefix {prefix!r}; remove the prefix"
    return f"{looks}nearest known layout by names: none; convert the file to torchvision's names"
