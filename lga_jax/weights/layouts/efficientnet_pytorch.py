"""EfficientNets in the names of EfficientNet-PyTorch (github.com/lukemelas/EfficientNet-PyTorch)."""

import re
from collections.abc import Collection

from lga_jax.models.backbones.efficientnet_lite import MULTIPLIERS, architecture
from lga_jax.weights.layouts.layout import TORCH_LEAF, TORCH_LEAVES, Layout, namer, place

_LAYERS = {
    "expand": "_expand_conv",
    "expand_norm": "_bn0",
    "depthwise": "_depthwise_conv",
    "depthwise_norm": "_bn1",
    "project": "_project_conv",
    "project_norm": "_bn2",
}
_BLOCK = re.compile(r"_blocks\.(\d+)\.")


def efficientnet_pytorch(names: Collection[str]) -> Layout:
    """EfficientNet-Lite, converted from TensorFlow. `names`: of the file, whose number of blocks tells their parts."""
    firsts = _first_blocks(names)

    def backbone(module: str) -> list[str]:
        part, number, layer = place(module)
        if not module.startswith("layer"):
            return ["_conv_stem" if layer == "conv1" else "_bn0"]
        return [f"_blocks.{firsts[part] + number}.{_LAYERS[layer]}"]

    return Layout(
        "EfficientNet-PyTorch's EfficientNet-Lite",
        ("backbone",),
        namer({"backbone": backbone}, TORCH_LEAVES),
        backbone=re.compile(r"_conv_stem\.|_bn0\.|_blocks\."),
        plain=re.compile(rf"(?:_conv_stem|_bn0|_blocks\.\d+\.(?:{'|'.join(_LAYERS.values())})){TORCH_LEAF}"),
        ignored=re.compile(r"(?:.*\.num_batches_tracked|(?:_conv_head|_bn1|_fc)\.\w+)$"),
        family="efficientnet_lite",
        pixels="tensorflow",
    )


def _first_blocks(names: Collection[str]) -> list[int]:
    """Number of the first block of each part, in the variant that has as many blocks as the file; else in Lite0."""
    last = max((int(found[1]) for name in names if (found := _BLOCK.match(name))), default=0)
    sizes = [[len(part) for part in architecture(variant)] for variant in MULTIPLIERS]
    parts = next((parts for parts in sizes if sum(parts) == last + 1), sizes[0])
    return [sum(parts[:part]) for part in range(len(parts))]
