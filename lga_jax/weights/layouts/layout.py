"""Layouts of weight files: our parameters, their names in a file, and what a file contains.

Names are mapped from ours to theirs only; reading and writing use the same mapping.
"""

import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

ALL_PARTS = ("backbone", "fpn", "rpn", "attention", "box_head", "mask_head")

# As keys of config.model.
COCO_ANCHORS = {"anchors.sizes": (32, 64, 128, 256, 512), "anchors.aspect_ratios": (0.5, 1.0, 2.0)}
MASK_COMPUTES = {"mask_head.crop_size": 14}  # compared if the model has a mask head
NOTHING = re.compile(r"(?!)")
# Our leaf -> endings of names in state dicts of PyTorch.
TORCH_LEAVES = {
    "kernel": [".weight"],
    "scale": [".weight"],
    "bias": [".bias"],
    "mean": [".running_mean"],
    "var": [".running_var"],
}
TORCH_LEAF = r"\.(?:weight|bias|running_mean|running_var|num_batches_tracked)$"


class Slot(NamedTuple):
    """A parameter of ours, such as batch_stats/backbone/layer2_0/norm1/bn/mean."""

    key: str
    part: str  # one of ALL_PARTS, or a later stage of a cascade: stages_1, ...
    module: str  # layer2_0/norm1
    norm: str  # kind of its norm layer: "", "bn" or "gn"
    leaf: str  # mean

    @classmethod
    def of(cls, key: str) -> "Slot":
        """Parses a key that starts with its collection."""
        _, part, *modules, leaf = key.split("/")
        norm = modules.pop() if modules and modules[-1] in ("bn", "gn") else ""
        return cls(key, part, "/".join(modules), norm, leaf)


class Layout(NamedTuple):
    """The names and conventions of one kind of file."""

    title: str
    parts: tuple[str, ...]  # parts that such a file can contain
    names: Callable[[Slot], list[str]]  # a parameter's possible names, the newest first
    backbone: re.Pattern  # matches names of the backbone ...
    plain: re.Pattern  # ... and the names that backbones of this project have
    ignored: re.Pattern  # classifiers, counters, anchors: not needed by a detector
    background_first: bool = False  # background is the first row of the predictor, also for boxes
    affine_norms: bool = False  # norms of the backbone may have only scale and bias: mean 0, variance 1
    family: str = ""  # family of the backbone, as in model.backbone.name; "": another one, or none
    ours: bool = False
    pixels: str = ""  # input pixels: "torchvision", "caffe", "tensorflow" or "inception"; "": read from the file
    computes: Mapping[str, Any] = MappingProxyType({})  # keys of config.model that shapes do not show
    loose: tuple[str, ...] = ()  # keys of `computes` that may differ in a model
    recipe: str = ""  # recipe with the values of `computes`
    idle: re.Pattern = NOTHING  # biases that are ignored if they are zero

    def name_of(self, key: str, arrays: Collection[str]) -> str | None:
        """The name of our parameter `key` in a file; None if the file lacks it."""
        return next((name for name in self.names(Slot.of(key)) if name in arrays), None)


def pieces_of(name: str) -> list[str]:
    """The names of the arrays that make a parameter: Swin V2's bias of queries stands beside that of values."""
    return [name, name.removesuffix("q_bias") + "v_bias"] if name.endswith(".q_bias") else [name]


def namer(
    parts: Mapping[str, Callable[[str], list[str]]], leaves: Mapping[str, list[str]]
) -> Callable[[Slot], list[str]]:
    """Builds the `names` of a layout from the module names of each part and the endings of each leaf."""

    def names(slot: Slot) -> list[str]:
        # Group norm of such files has another group size, so it is never loaded.
        if slot.part not in parts or slot.norm == "gn":
            return []
        return [module + leaf for module in parts[slot.part](slot.module) for leaf in leaves[slot.leaf]]

    return names


def place(module: str) -> tuple[int, int, str]:
    """layer2_0/conv1 -> (2, 0, conv1); the stem is stage 0."""
    block, _, layer = module.rpartition("/")
    stage, _, number = block.removeprefix("layer").partition("_")
    return int(stage or 0), int(number or 0), layer


def count_modules(layout: Layout, arrays: Collection[str], part: str, module: str) -> int:
    """Number of modules conv1, conv2, ... (`module` is conv) in a part of the file's detector."""
    count = 0
    while layout.name_of(f"params/{part}/{module}{count + 1}/kernel", arrays):
        count += 1
    return count


def found_norm(layout: Layout, arrays: Collection[str], part: str, module: str) -> str:
    """Kind of the norm layer `module` in a file: "bn", "none", or "affine" for only a scale and a bias."""

    def has(norm_and_leaf: str) -> bool:
        return layout.name_of(f"params/{part}/{module}/{norm_and_leaf}", arrays) is not None

    if has("bn/var"):
        return "bn"
    return "affine" if has("bn/scale") or has("gn/scale") else "none"
