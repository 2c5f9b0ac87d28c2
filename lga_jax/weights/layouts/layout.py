"""What every layout is made of: slots, names, and questions to a file by its layout.

Names go one way, from ours to theirs, so that reading and writing a layout share them.
"""

import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

ALL_PARTS = ("backbone", "fpn", "rpn", "attention", "box_head")
DETECTOR_PARTS = ("backbone", "fpn", "rpn", "box_head")

# In the keys of config.model.
COCO_ANCHORS = {"anchors.sizes": (32, 64, 128, 256, 512), "anchors.aspect_ratios": (0.5, 1.0, 2.0)}
NOTHING = re.compile(r"(?!)")
# Endings of names in state dicts of PyTorch, by our leaves.
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
    part: str  # of ALL_PARTS, or a later stage of a cascade: stages_1, ...
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
    plain: re.Pattern  # ... and those of it that the backbones of this project have
    ignored: re.Pattern  # classifiers, counters, anchors: nothing that a detector's weights need
    background_first: bool = False  # in the rows of the predictor, where the boxes then have a background too
    affine_norms: bool = False  # norms of the backbone may be scale and bias alone: mean 0 and variance 1
    family: str = ""  # of the backbone, as model.backbone.name has it; "": another one, or none
    ours: bool = False
    pixels: str = ""  # whose the network sees, "torchvision"'s or "caffe"'s; "": the file tells
    computes: Mapping[str, Any] = MappingProxyType({})  # keys of config.model that shapes do not tell
    loose: tuple[str, ...] = ()  # keys of `computes` for which a model may well have other values
    recipe: str = ""  # that has the values of `computes`
    idle: re.Pattern = NOTHING  # biases that nothing needs where they are zero

    def name_of(self, key: str, arrays: Collection[str]) -> str | None:
        """The name under which a file has the parameter `key` of ours; None where it has none."""
        return next((name for name in self.names(Slot.of(key)) if name in arrays), None)


def namer(
    parts: Mapping[str, Callable[[str], list[str]]], leaves: Mapping[str, list[str]]
) -> Callable[[Slot], list[str]]:
    """The `names` of a layout, from the possible names of each part's modules and the endings of each leaf."""

    def names(slot: Slot) -> list[str]:
        # Group norm is no layer of these files: theirs has groups of another size.
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
