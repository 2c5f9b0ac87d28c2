"""Layout of Detectron2's Faster and Cascade R-CNN with FPN, and of ResNets converted to its names."""

import re
from collections.abc import Callable

from lga_jax.weights.layouts.layout import COCO_ANCHORS, MASK_COMPUTES, TORCH_LEAF, TORCH_LEAVES, Layout, namer, place

# Settings of its detectors that parameter shapes do not show, as keys of config.model.
_COMPUTES = COCO_ANCHORS | {
    "backbone.norm_eps": 1e-5,
    "anchors.rounded": False,
    "anchors.fixed_stride": True,
    "roi_align.sampling_ratio": 0,
    "roi_align.aligned": True,
}


_MASK_COMPUTES = MASK_COMPUTES | {"mask_head.sampling_ratio": 0}
_CASCADE_COMPUTES = {"box_head.class_agnostic": True, "cascade.coder_scales": (2.0, 3.0)}


def detectron2(detector: bool, num_stages: int = 0, has_masks: bool = False) -> Layout:
    """Detectron2's Faster R-CNN with FPN, or (`detector` False) a backbone converted to its names.

    `num_stages`: the number of RoI stages of its Cascade R-CNN; 0: Faster R-CNN. `has_masks`: with a mask head.
    """

    def backbone(module: str) -> list[str]:
        stage, block, layer = place(module)
        layer = layer.replace("shortcut_conv", "shortcut").replace("shortcut_norm", "shortcut.norm")
        layer = re.sub(r"norm(\d)", r"conv\1.norm", layer)
        prefix = "backbone.bottom_up." if detector else ""
        return [f"{prefix}res{stage + 1}.{block}.{layer}" if stage else f"{prefix}stem.{layer}"]

    def rpn(module: str) -> list[str]:
        head = "proposal_generator.rpn_head"
        if module.startswith("conv"):
            number = int(module.removeprefix("conv"))
            return [*([f"{head}.conv"] if number == 1 else []), f"{head}.conv.conv{number - 1}"]
        return [f"{head}.{ {'objectness': 'objectness_logits', 'deltas': 'anchor_deltas'}[module] }"]

    parts = {"backbone": backbone}
    if detector:
        parts |= {
            "fpn": lambda module: [f"backbone.fpn_{module.replace('_norm', '.norm')}"],
            "rpn": rpn,
            "box_head": _box_head("0." if num_stages else ""),
        }
        for number in range(1, num_stages):
            parts[f"stages_{number}"] = _box_head(f"{number}.", "box_head/")
        if has_masks:
            parts["mask_head"] = _mask_head
    prefix = r"backbone\.bottom_up\." if detector else ""
    return Layout(
        _title(detector, num_stages, has_masks),
        tuple(parts),
        namer(parts, TORCH_LEAVES),
        backbone=re.compile(rf"{prefix}(?:stem|res[2-5])\."),
        plain=re.compile(
            rf"{prefix}(?:stem\.conv1|res[2-5]\.\d+\.(?:conv[123]|shortcut))(?:\.norm)?{TORCH_LEAF}",
        ),
        ignored=re.compile(
            r"(?:.*\.num_batches_tracked|(?:stem\.fc|fc|fc1000|linear)\.\w+|stem\.conv1\.bias|pixel_mean|pixel_std"
            r"|proposal_generator\.anchor_generator\..*|roi_heads\.mask_head\..*)$"
        ),
        affine_norms=True,
        family="resnet",
        computes=(_COMPUTES | (_CASCADE_COMPUTES if num_stages else {}) | (_MASK_COMPUTES if has_masks else {}))
        if detector
        else {},
        loose=("roi_align.sampling_ratio", "mask_head.sampling_ratio"),  # a fixed number of points is an approximation
        recipe="configs/coco_detectron2_1x.py",
    )


def _title(detector: bool, num_stages: int, has_masks: bool) -> str:
    if not detector:
        return "Detectron2's ResNet"
    kinds = [kind for kind, has in (("Cascade", num_stages), ("Mask", has_masks)) if has]
    return f"Detectron2's {' '.join(kinds) or 'Faster'} R-CNN"


def _mask_head(module: str) -> list[str]:
    module = module.replace("conv", "mask_fcn") if module.startswith("conv") else module
    return [f"roi_heads.mask_head.{module.replace('classes', 'predictor').replace('_norm', '.norm')}"]


def _box_head(stage: str, ours: str = "") -> Callable[[str], list[str]]:
    """The names of a box head. `stage`: "", or the number of its stage; `ours`: the prefix of our modules."""

    def names(module: str) -> list[str]:
        if not module.startswith(ours):  # the attention of a later stage
            return []
        module = module.removeprefix(ours)
        if module in ("classes", "deltas"):
            return [f"roi_heads.box_predictor.{stage}{'cls_score' if module == 'classes' else 'bbox_pred'}"]
        return [f"roi_heads.box_head.{stage}{module.replace('_norm', '.norm')}"]

    return names
