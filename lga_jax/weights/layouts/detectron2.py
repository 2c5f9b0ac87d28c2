"""Layout of Detectron2's Faster R-CNN with FPN, and of ResNets converted to its names."""

import re

from lga_jax.weights.layouts.layout import COCO_ANCHORS, TORCH_LEAF, TORCH_LEAVES, Layout, namer, place

# Settings of its detectors that parameter shapes do not show, as keys of config.model.
_COMPUTES = COCO_ANCHORS | {
    "backbone.norm_eps": 1e-5,
    "anchors.rounded": False,
    "anchors.fixed_stride": True,
    "roi_align.sampling_ratio": 0,
    "roi_align.aligned": True,
}


def detectron2(detector: bool) -> Layout:
    """Detectron2's Faster R-CNN with FPN, or (`detector` False) a backbone converted to its names."""

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

    def box_head(module: str) -> list[str]:
        if module in ("classes", "deltas"):
            return [f"roi_heads.box_predictor.{'cls_score' if module == 'classes' else 'bbox_pred'}"]
        return [f"roi_heads.box_head.{module.replace('_norm', '.norm')}"]

    parts = {"backbone": backbone}
    if detector:
        parts |= {
            "fpn": lambda module: [f"backbone.fpn_{module.replace('_norm', '.norm')}"],
            "rpn": rpn,
            "box_head": box_head,
        }
    prefix = r"backbone\.bottom_up\." if detector else ""
    return Layout(
        "Detectron2's Faster R-CNN" if detector else "Detectron2's ResNet",
        tuple(parts),
        namer(parts, TORCH_LEAVES),
        backbone=re.compile(rf"{prefix}(?:stem|res[2-5])\."),
        plain=re.compile(
            rf"{prefix}(?:stem\.conv1|res[2-5]\.\d+\.(?:conv[123]|shortcut))(?:\.norm)?{TORCH_LEAF}",
        ),
        ignored=re.compile(
            r"(?:.*\.num_batches_tracked|(?:stem\.fc|fc|fc1000|linear)\.\w+|stem\.conv1\.bias|pixel_mean|pixel_std"
            r"|proposal_generator\.anchor_generator\..*)$"
        ),
        affine_norms=True,
        family="resnet",
        computes=_COMPUTES if detector else {},
        loose=("roi_align.sampling_ratio",),  # a fixed number of points is an approximation
        recipe="configs/coco_detectron2_1x.py",
    )
