"""ConvNeXts in the names of torchvision and of timm."""

import re
from collections.abc import Callable

from lga_jax.weights.layouts.layout import TORCH_LEAF, TORCH_LEAVES, Layout, namer, place

_TORCHVISION = {"depthwise": "block.0", "norm": "block.2", "expand": "block.3", "project": "block.5"}
_TIMM = {"depthwise": "conv_dw", "norm": "norm", "expand": "mlp.fc1", "project": "mlp.fc2"}


def torchvision_convnext() -> Layout:
    """torchvision's convnext_tiny, _small and _base: stem and stages take turns in `features`."""

    def block(stage: int, number: int, layer: str) -> str:
        return f"features.{2 * stage - 1}.{number}" + (f".{_TORCHVISION[layer]}" if layer else "")

    def down(stage: int, is_norm: bool) -> str:
        return f"features.{2 * stage - 2}.{0 if is_norm else 1}"

    layers = r"features\.\d+\.\d+\.(?:block\.[0235])"
    return _layout("torchvision's ConvNeXt", "features.0", block, down, layers, ".layer_scale", r"classifier\.")


def timm_convnext() -> Layout:
    """timm's convnext_tiny, _small and _base."""

    def block(stage: int, number: int, layer: str) -> str:
        return f"stages.{stage - 1}.blocks.{number}" + (f".{_TIMM[layer]}" if layer else "")

    def down(stage: int, is_norm: bool) -> str:
        return f"stages.{stage - 1}.downsample.{0 if is_norm else 1}"

    layers = r"stages\.\d\.blocks\.\d+\.(?:conv_dw|norm|mlp\.fc[12])"
    return _layout("timm's ConvNeXt", "stem", block, down, layers, ".gamma", r"head\.|norm_pre\.")


def _layout(
    title: str,
    stem: str,
    block: Callable[[int, int, str], str],
    down: Callable[[int, bool], str],
    layers: str,
    layer_scale: str,
    ignored: str,
) -> Layout:
    def backbone(module: str) -> list[str]:
        if module.startswith("output"):  # classifiers have no norms of features
            return []
        if module.startswith("stem"):
            return [f"{stem}.{1 if module == 'stem_norm' else 0}"]
        if module.startswith("down"):
            return [down(int(module[len("down")]), module.endswith("_norm"))]
        stage, number, layer = place(module) if "/" in module else place(f"{module}/")
        return [block(stage, number, layer)]

    first = stem.split(".")[0]
    scale = re.escape(layer_scale)
    return Layout(
        title,
        ("backbone",),
        namer({"backbone": backbone}, {**TORCH_LEAVES, "layer_scale": [layer_scale]}),
        backbone=re.compile(rf"{first}\.|stages\."),
        plain=re.compile(
            rf"(?:{stem}\.[01]|{layers}|features\.\d+\.[01]|stages\.\d\.downsample\.[01]){TORCH_LEAF}|.*{scale}$"
        ),
        ignored=re.compile(rf"(?:{ignored})"),
        family="convnext",
        pixels="torchvision",
    )
