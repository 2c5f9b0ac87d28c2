"""Vision Transformers in the names of torchvision, and of timm, DeiT and MAE."""

import re

from lga_jax.models.backbones.vit import BLOCKS
from lga_jax.weights.layouts.layout import TORCH_LEAVES, Layout, Slot, place

_TORCHVISION = {
    "attention/qkv": ["self_attention.in_proj_"],
    "attention/project": ["self_attention.out_proj."],
    "norm1": ["ln_1."],
    "norm2": ["ln_2."],
    "expand": ["mlp.0.", "mlp.linear_1."],
    "shrink": ["mlp.3.", "mlp.linear_2."],
}
_TIMM = {
    "attention/qkv": ["attn.qkv."],
    "attention/project": ["attn.proj."],
    "norm1": ["norm1."],
    "norm2": ["norm2."],
    "expand": ["mlp.fc1."],
    "shrink": ["mlp.fc2."],
}


def torchvision_vit() -> Layout:
    """torchvision's vit_b_16."""
    plain = r"encoder\.layers\.encoder_layer_\d+\.(?:self_attention|ln_[12]|mlp)\.|conv_proj\.|encoder\.pos_embedding$"
    return _layout(
        "torchvision's ViT",
        ("conv_proj.", "encoder.pos_embedding", "encoder.layers.encoder_layer_{}."),
        _TORCHVISION,
        backbone=r"encoder\.layers\.|conv_proj\.|encoder\.pos_embedding$",
        plain=plain,
        ignored=r"class_token$|encoder\.ln\.|heads\.",
        pixels="torchvision",
    )


def timm_vit(augmented: bool) -> Layout:
    """timm's vit_small_patch16_224 and vit_base_patch16_224, DeiT, and MAE.

    `augmented`: Google's "augreg" weights, which have seen pixels from -1 to 1.
    """
    layers = "|".join(re.escape(name) for names in _TIMM.values() for name in names)
    return _layout(
        "timm's ViT",
        ("patch_embed.proj.", "pos_embed", "blocks.{}."),
        _TIMM,
        backbone=r"blocks\.|patch_embed\.|pos_embed$",
        plain=rf"(?:blocks\.\d+\.(?:{layers})|patch_embed\.proj\.)|pos_embed$",
        ignored=r"cls_token$|dist_token$|mask_token$|decoder_|(?:fc_)?norm\.|head(?:_dist)?\.",
        pixels="inception" if augmented else "torchvision",
    )


def _layout(
    title: str,
    stem: tuple[str, str, str],
    layers: dict[str, list[str]],
    *,
    backbone: str,
    plain: str,
    ignored: str,
    pixels: str,
) -> Layout:
    """`stem`: the prefix of the convolution, the name of the positions, and the prefix of a block."""
    patches, positions, block = stem

    def names(slot: Slot) -> list[str]:
        # Classifiers have no pyramid.
        if slot.part != "backbone" or slot.module.startswith("output"):
            return []
        if slot.leaf == "stem_position":
            return [positions]
        return [prefix + ending.lstrip(".") for prefix in prefixes(slot.module) for ending in TORCH_LEAVES[slot.leaf]]

    def prefixes(module: str) -> list[str]:
        if module == "stem":
            return [patches]
        block_name, _, layer = module.partition("/")
        part, number, _ = place(f"{block_name}/")
        return [block.format(BLOCKS * (part - 1) + number) + name for name in layers[layer]]

    return Layout(
        title,
        ("backbone",),
        names,
        backbone=re.compile(backbone),
        plain=re.compile(plain),
        ignored=re.compile(ignored),
        family="vit",
        pixels=pixels,
    )
