"""Swin Transformers in the names of torchvision, and of timm and the paper's authors."""

import re
from collections.abc import Callable

from lga_jax.weights.layouts.layout import TORCH_LEAVES, Layout, Slot, namer

_LEAVES = {**TORCH_LEAVES, "bias_table": [".relative_position_bias_table"], "logit_scale": [".logit_scale"]}
_ATTENTION = {
    "attention": "attn",
    "attention/qkv": "attn.qkv",
    "attention/project": "attn.proj",
    "attention/bias_expand": "attn.cpb_mlp.0",
    "attention/bias_project": "attn.cpb_mlp.2",
    "norm1": "norm1",
    "norm2": "norm2",
}
_TORCHVISION = _ATTENTION | {"expand": "mlp.0", "shrink": "mlp.3"}
_TIMM = _ATTENTION | {"expand": "mlp.fc1", "shrink": "mlp.fc2"}
# Constants that the code computes.
_BUFFERS = r".*\.(?:relative_position_index|relative_coords_table|attn_mask)$|"


def torchvision_swin() -> Layout:
    """torchvision's swin_t, _s, _b, and swin_v2_t, _s, _b: stem, stages and merging take turns in `features`."""

    def names(stage: int, rest: str) -> list[str]:
        if rest == "merge":
            return [f"features.{2 * stage - 2}"]
        number, _, layer = rest.partition("/")
        return [f"features.{2 * stage - 1}.{number}.{_TORCHVISION[layer]}"]

    stem = {"stem": "features.0.0", "stem_norm": "features.0.2"}
    return _layout("torchvision's Swin", stem, names, r"features\.", rf"{_BUFFERS}norm\.|head\.")


def timm_swin(merges_first: bool) -> Layout:
    """timm's swin_tiny, _small and _base, and swinv2_tiny, _small and _base with windows of 8 x 8 cells.

    `merges_first`: a stage begins with the merging of patches; in older files the stage before ends with it. Version 2
    stores the biases of queries and values, each under its own name.
    """

    def names(stage: int, rest: str) -> list[str]:
        if rest == "merge":
            return [f"layers.{stage - (1 if merges_first else 2)}.downsample"]
        number, _, layer = rest.partition("/")
        return [f"layers.{stage - 1}.blocks.{number}.{_TIMM[layer]}"]

    stem = {"stem": "patch_embed.proj", "stem_norm": "patch_embed.norm"}
    layout = _layout("timm's Swin", stem, names, r"patch_embed\.|layers\.", rf"{_BUFFERS}norm\.|head\.")
    return layout._replace(names=_with_query_bias(layout.names))


def _with_query_bias(names: Callable[[Slot], list[str]]) -> Callable[[Slot], list[str]]:
    def both(slot: Slot) -> list[str]:
        found = names(slot)
        if not slot.key.endswith("/attention/qkv/bias"):
            return found
        return found + [name.removesuffix("qkv.bias") + "q_bias" for name in found]

    return both


def _layout(
    title: str, stem: dict[str, str], names: Callable[[int, str], list[str]], backbone: str, ignored: str
) -> Layout:
    """`names` of a stage: the prefixes of its merging ("merge"), or of a layer of a block ("0/attention/qkv")."""

    def modules(module: str) -> list[str]:
        if module.startswith("output"):  # classifiers have no norms of features
            return []
        if module in stem:
            return [stem[module]]
        if found := re.fullmatch(r"merge(\d)(_norm)?", module):
            layer = ".norm" if found[2] else ".reduction"
            return [prefix + layer for prefix in names(int(found[1]), "merge")]
        stage, rest = re.fullmatch(r"layer(\d)_(.+)", module).groups()
        return names(int(stage), rest)

    return Layout(
        title,
        ("backbone",),
        namer({"backbone": modules}, _LEAVES),
        backbone=re.compile(backbone),
        plain=re.compile(rf"(?:{backbone})"),
        ignored=re.compile(rf"(?:{ignored})"),
        family="swin",
        pixels="torchvision",
    )
