"""What the parameters of the detector are called in the files of other projects, and how such files are recognised.

Names go one way, from ours to theirs, so that reading and writing a layout share them.
"""

import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from lga_jax.errors import UserError, listed
from lga_jax.models.backbones.resnet import BASIC, BOTTLENECK

ALL_PARTS = ("backbone", "fpn", "rpn", "attention", "box_head")
DETECTOR_PARTS = ("backbone", "fpn", "rpn", "box_head")

_ANCHORS = {"anchors.sizes": (32, 64, 128, 256, 512), "anchors.aspect_ratios": (0.5, 1.0, 2.0)}
# What the detectors of others compute without a trace in the shapes of their parameters, in the keys of config.model.
TORCHVISION_COMPUTES = _ANCHORS | {
    "anchors.rounded": True,
    "anchors.fixed_stride": False,
    "roi_align.sampling_ratio": 2,
    "roi_align.aligned": False,
}
_DETECTRON2_COMPUTES = _ANCHORS | {
    "backbone.norm_eps": 1e-5,
    "anchors.rounded": False,
    "anchors.fixed_stride": True,
    "roi_align.sampling_ratio": 0,
    "roi_align.aligned": True,
}
# In the name of torchvision's COCO_V1 weights: the only ones whose frozen norms are made for an epsilon of 0.
_COCO_V1_DIGEST = "258fb6c6"
_NOTHING = re.compile(r"(?!)")


class Slot(NamedTuple):
    """A parameter of ours, such as batch_stats/backbone/layer2_0/norm1/bn/mean."""

    key: str
    part: str  # of ALL_PARTS
    module: str  # layer2_0/norm1
    norm: str  # kind of the norm layer it belongs to: "", "bn" or "gn"
    leaf: str  # mean

    @classmethod
    def of(cls, key: str) -> "Slot":
        """The slot of a key that begins with its collection."""
        _, part, *modules, leaf = key.split("/")
        norm = modules.pop() if modules and modules[-1] in ("bn", "gn") else ""
        return cls(key, part, "/".join(modules), norm, leaf)


class Layout(NamedTuple):
    """The names and conventions of one kind of file."""

    title: str
    parts: tuple[str, ...]  # what such a file can hold
    names: Callable[[Slot], list[str]]  # a parameter's possible names, the newest first
    backbone: re.Pattern  # matches what belongs to the backbone ...
    plain: re.Pattern  # ... and those of it that a plain ResNet has
    ignored: re.Pattern  # classifiers, counters, anchors: nothing that a detector's weights need
    background_first: bool = False  # in the rows of the predictor, where the boxes then have a background too
    affine_norms: bool = False  # norms of the backbone may be scale and bias alone: mean 0 and variance 1
    ours: bool = False
    pixels: str = ""  # whose the network sees, "torchvision"'s or "caffe"'s; "": the file tells
    computes: Mapping[str, Any] = MappingProxyType({})  # keys of config.model that shapes do not tell
    loose: tuple[str, ...] = ()  # keys of `computes` for which a model may well have other values
    recipe: str = ""  # that has the values of `computes`
    idle: re.Pattern = _NOTHING  # biases that nothing needs where they are zero

    def name_of(self, key: str, arrays: Collection[str]) -> str | None:
        """The name under which a file has the parameter `key` of ours; None where it has none."""
        return next((name for name in self.names(Slot.of(key)) if name in arrays), None)


_LEAVES = {
    "kernel": [".weight"],
    "scale": [".weight"],
    "bias": [".bias"],
    "mean": [".running_mean"],
    "var": [".running_var"],
}
_CAFFE2_LEAVES = {
    "kernel": ["_w"],
    "scale": ["_s", "_gamma"],
    "bias": ["_b", "_beta"],
    "mean": ["_rm", "_running_mean"],
    "var": ["_riv", "_running_var"],
}
_TORCH_LEAF = r"\.(?:weight|bias|running_mean|running_var|num_batches_tracked)$"


def own_layout(names: Collection[str]) -> Layout:
    """Checkpoints of this project: the keys of the variables. A norm that was trained may be a constant here."""

    def own_names(slot: Slot) -> list[str]:
        path = slot.key.split("/", 1)[1]
        return [f"{collection}/{path}" for collection in ("params", "batch_stats")]

    held = {name.split("/")[1] for name in names if name.count("/") > 1}
    parts = tuple(part for part in ALL_PARTS if part in held)
    return Layout("a checkpoint of lga_jax", parts, own_names, _NOTHING, _NOTHING, _NOTHING, ours=True)


def torchvision_resnet() -> Layout:
    """torchvision's and timm's ResNets; nothing but the backbone."""
    return Layout(
        "torchvision's ResNet",
        ("backbone",),
        _namer({"backbone": lambda module: [_torchvision_backbone(module)]}, _LEAVES),
        backbone=re.compile(r"(?:conv1|bn1|layer[1-4])\."),
        plain=_torchvision_plain(""),
        ignored=re.compile(r"(?:.*\.num_batches_tracked|fc\.\w+)$"),
        pixels="torchvision",
    )


def torchvision_detector(num_box_convs: int, is_coco_v1: bool = False) -> Layout:
    """torchvision's fasterrcnn_resnet50_fpn and its kin; `num_box_convs` is 4 in _v2 and 0 in the first version.

    `is_coco_v1`: the published weights of the first version. A copy under another name does not tell itself.
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
        # Behind n convolutions stand a Flatten and, for every dense layer, itself and its ReLU.
        behind_convs = f"roi_heads.box_head.{num_box_convs + 2 * int(number) - 1}"
        return [behind_convs if num_box_convs else f"roi_heads.box_head.fc{int(number) + 5}"]

    parts = {
        "backbone": lambda module: [f"backbone.body.{_torchvision_backbone(module)}"],
        "fpn": fpn,
        "rpn": rpn,
        "box_head": box_head,
    }
    return Layout(
        "torchvision's Faster R-CNN",
        DETECTOR_PARTS,
        _namer(parts, _LEAVES),
        backbone=re.compile(r"backbone\.body\."),
        plain=_torchvision_plain(r"backbone\.body\."),
        ignored=re.compile(r".*\.num_batches_tracked$"),
        background_first=True,
        pixels="torchvision",
        computes=TORCHVISION_COMPUTES | {"backbone.norm_eps": 0.0 if is_coco_v1 else 1e-5},
        loose=() if is_coco_v1 or num_box_convs else ("backbone.norm_eps",),
        recipe=f"configs/coco_torchvision_{'v2' if num_box_convs else 'v1'}.py",
    )


def detectron2(detector: bool) -> Layout:
    """Detectron2's Faster R-CNN with FPN, or (`detector` False) a backbone that was converted to its names."""

    def backbone(module: str) -> list[str]:
        stage, block, layer = _place(module)
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
        _namer(parts, _LEAVES),
        backbone=re.compile(rf"{prefix}(?:stem|res[2-5])\."),
        plain=re.compile(
            rf"{prefix}(?:stem\.conv1|res[2-5]\.\d+\.(?:conv[123]|shortcut))(?:\.norm)?{_TORCH_LEAF}",
        ),
        ignored=re.compile(
            r"(?:.*\.num_batches_tracked|(?:stem\.fc|fc|fc1000|linear)\.\w+|stem\.conv1\.bias|pixel_mean|pixel_std"
            r"|proposal_generator\.anchor_generator\..*)$"
        ),
        affine_norms=True,
        computes=_DETECTRON2_COMPUTES if detector else {},
        loose=("roi_align.sampling_ratio",),  # a fixed number of points is an approximation
        recipe="configs/coco_detectron2_1x.py",
    )


def caffe2_resnet() -> Layout:
    """The ResNets that MSRA trained with Caffe, as Detectron and Detectron2 distribute them (R-50.pkl, R-101.pkl)."""

    def backbone(module: str) -> list[str]:
        stage, block, layer = _place(module)
        if not stage:
            return ["conv1" if layer == "conv1" else "res_conv1_bn"]
        branch = "branch1" if layer.startswith("shortcut") else f"branch2{'abc'[int(layer[-1]) - 1]}"
        return [f"res{stage + 1}_{block}_{branch}{'_bn' if 'norm' in layer else ''}"]

    return Layout(
        "Caffe2's ResNet",
        ("backbone",),
        _namer({"backbone": backbone}, _CAFFE2_LEAVES),
        backbone=re.compile(r"(?:conv1|res_conv1|res[2-5])_"),
        plain=re.compile(
            r"(?:conv1|res_conv1_bn|res[2-5]_\d+_branch(?:1|2[abc])(?:_bn)?)"
            r"_(?:w|b|s|rm|riv|gamma|beta|running_mean|running_var)$"
        ),
        # conv1 has a bias of about 1e-9, which Detectron2 leaves out too.
        ignored=re.compile(r"(?:(?:fc1000|pred)_[wb]|conv1_b)$"),
        affine_norms=True,
        pixels="caffe",
        idle=re.compile(r"res[2-5]_\d+_branch(?:1|2[abc])_b$"),  # Detectron's copy of MSRA's has them beside the norms
    )


def recognise(where: str, arrays: Mapping[str, np.ndarray]) -> Layout:
    """The layout of a file by the names in it. Raises UserError, with the nearest known one, for any other file."""

    def has(pattern: str) -> bool:
        return any(re.match(pattern, name) for name in arrays)

    if has(rf"params/(?:{'|'.join(ALL_PARTS)})/"):
        return own_layout(arrays)
    if has(r"backbone\.body\.(?:conv1|layer\d)\."):
        _check_is_faster_rcnn(where, arrays, "torchvision", ("rpn.head.", "roi_heads.box_predictor.cls_score."))
        convs = {name.split(".")[2] for name in arrays if re.match(r"roi_heads\.box_head\.\d+\.0\.weight", name)}
        return torchvision_detector(len(convs), is_coco_v1=not convs and _COCO_V1_DIGEST in where)
    if has(r"backbone\.bottom_up\.(?:stem|res\d)\."):
        needed = ("backbone.fpn_lateral2.", "proposal_generator.rpn_head.", "roi_heads.box_predictor.cls_score.")
        _check_is_faster_rcnn(where, arrays, "Detectron2", needed)
        return detectron2(detector=True)
    if has(r"(?:stem\.conv1|res2\.0\.conv1)\."):
        return detectron2(detector=False)
    if has(r"(?:conv1_w|res2_0_branch2a_w)$"):
        return caffe2_resnet()
    if has(r"conv1(?:\.0)?\.weight$|layer[1-4]\.\d+\.conv\d\.weight$"):
        return torchvision_resnet()
    raise UserError(
        f"weights {where}",
        expected="the names of torchvision, timm, Detectron2, Caffe2 or lga_jax",
        found=listed(sorted(arrays), 3),
        remedy=_nearest(arrays),
    )


def found_blocks(layout: Layout, arrays: Collection[str]) -> tuple[str, tuple[int, ...]]:
    """Kind of the residual blocks in a file, and how many of them each of the four stages has."""

    def has(module: str) -> bool:
        return layout.name_of(f"params/backbone/{module}/kernel", arrays) is not None

    blocks = []
    for stage in range(1, 5):
        count = 0
        while has(f"layer{stage}_{count}/conv1") or has(f"layer{stage}_{count}/conv2"):
            count += 1
        blocks.append(count)
    bottleneck = any(has(f"layer{stage}_{block}/conv3") for stage in range(1, 5) for block in range(blocks[stage - 1]))
    return BOTTLENECK if bottleneck else BASIC, tuple(blocks)


def count_modules(layout: Layout, arrays: Collection[str], part: str, module: str) -> int:
    """How many modules conv1, conv2, ... (`module` is conv) a part of the file's detector has."""
    count = 0
    while layout.name_of(f"params/{part}/{module}{count + 1}/kernel", arrays):
        count += 1
    return count


def found_norm(layout: Layout, arrays: Collection[str], part: str, module: str) -> str:
    """Kind of the norm layer `module` of a file: "bn", "none", or "affine" where it is a scale and a bias alone."""

    def has(norm_and_leaf: str) -> bool:
        return layout.name_of(f"params/{part}/{module}/{norm_and_leaf}", arrays) is not None

    if has("bn/var"):
        return "bn"
    return "affine" if has("bn/scale") or has("gn/scale") else "none"


def _namer(
    parts: Mapping[str, Callable[[str], list[str]]], leaves: Mapping[str, list[str]]
) -> Callable[[Slot], list[str]]:
    def names(slot: Slot) -> list[str]:
        # Group norm is no layer of these files: theirs has groups of another size.
        if slot.part not in parts or slot.norm == "gn":
            return []
        return [module + leaf for module in parts[slot.part](slot.module) for leaf in leaves[slot.leaf]]

    return names


def _place(module: str) -> tuple[int, int, str]:
    """layer2_0/conv1 -> (2, 0, conv1); the stem is stage 0."""
    block, _, layer = module.rpartition("/")
    stage, _, number = block.removeprefix("layer").partition("_")
    return int(stage or 0), int(number or 0), layer


def _torchvision_backbone(module: str) -> str:
    stage, block, layer = _place(module)
    layer = layer.replace("shortcut_conv", "downsample.0").replace("shortcut_norm", "downsample.1")
    layer = layer.replace("norm", "bn")
    return f"layer{stage}.{block}.{layer}" if stage else layer


def _torchvision_plain(prefix: str) -> re.Pattern:
    block = r"layer[1-4]\.\d+\.(?:(?:conv|bn)[123]|downsample\.[01])"
    return re.compile(rf"{prefix}(?:conv1|bn1|{block}){_TORCH_LEAF}")


def _check_is_faster_rcnn(where: str, arrays: Collection[str], whose: str, needed: tuple[str, ...]) -> None:
    missing = [prefix for prefix in needed if not any(name.startswith(prefix) for name in arrays)]
    if missing:
        raise UserError(
            f"weights {where}",
            expected=f"{whose}'s Faster R-CNN with FPN, the nearest known layout by names",
            found=f"another detector, without {missing[0]}*",
            remedy="give weights of that one",
        )


_SIGNATURES = {
    r"layer1\.0\.conv1\.weight$": "torchvision's ResNet",
    r"res2\.0\.conv1\.weight$": "Detectron2's ResNet",
    r"res2_0_branch2a_w$": "Caffe2's ResNet",
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
                return f"{looks}nearest known layout by names: {title} under the prefix {prefix!r}; take that off"
    return f"{looks}nearest known layout by names: none; convert the file to torchvision's names"
