"""Layout of the ResNets trained with Caffe."""

import re

from lga_jax.weights.layouts.layout import Layout, namer, place

# Our leaf -> endings of names.
_LEAVES = {
    "kernel": ["_w"],
    "scale": ["_s", "_gamma"],
    "bias": ["_b", "_beta"],
    "mean": ["_rm", "_running_mean"],
    "var": ["_riv", "_running_var"],
}


def caffe2_resnet() -> Layout:
    """The ResNets that MSRA trained with Caffe, as Detectron and Detectron2 distribute them (R-50.pkl, R-101.pkl)."""

    def backbone(module: str) -> list[str]:
        stage, block, layer = place(module)
        if not stage:
            return ["conv1" if layer == "conv1" else "res_conv1_bn"]
        branch = "branch1" if layer.startswith("shortcut") else f"branch2{'abc'[int(layer[-1]) - 1]}"
        return [f"res{stage + 1}_{block}_{branch}{'_bn' if 'norm' in layer else ''}"]

    return Layout(
        "Caffe2's ResNet",
        ("backbone",),
        namer({"backbone": backbone}, _LEAVES),
        backbone=re.compile(r"(?:conv1|res_conv1|res[2-5])_"),
        plain=re.compile(
            r"(?:conv1|res_conv1_bn|res[2-5]_\d+_branch(?:1|2[abc])(?:_bn)?)"
            r"_(?:w|b|s|rm|riv|gamma|beta|running_mean|running_var)$"
        ),
        # conv1 has a bias of about 1e-9; Detectron2 ignores it too.
        ignored=re.compile(r"(?:(?:fc1000|pred)_[wb]|conv1_b)$"),
        affine_norms=True,
        family="resnet",
        pixels="caffe",
        idle=re.compile(r"res[2-5]_\d+_branch(?:1|2[abc])_b$"),  # in Detectron's copy, beside the norms
    )
