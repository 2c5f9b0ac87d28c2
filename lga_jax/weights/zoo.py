"""Public files of weights that this project can import, with what their projects publish about them."""

import hashlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from lga_jax.errors import UserError

# The code's licence. The files have none of their own; the project says that data of the training may set terms.
_TORCHVISION = "BSD-3-Clause (torchvision's code)"
_DETECTRON2 = "CC-BY-SA-3.0"
_MODEL_ZOO = "https://github.com/facebookresearch/detectron2/blob/main/MODEL_ZOO.md"
_TORCHVISION_TABLE = "https://docs.pytorch.org/vision/stable/models.html#object-detection"
_CASCADE = MappingProxyType(
    {
        "model.cascade.attentions": '("none","none")',
        "model.cascade.positive_ious": "(0.6,0.7)",
        "model.cascade.coder_scales": "(2.0,3.0)",
        "model.cascade.loss_weights": "(1.0,1.0)",
        "model.box_head.class_agnostic": "True",
    }
)

_MASKS = MappingProxyType({"model.mask_head.enabled": "True", "model.mask_head.sampling_ratio": "0"})


class PublicDetector(NamedTuple):
    """A detector of COCO's 80 classes."""

    recipe: str  # the recipe of the same model
    address: str
    digest: str  # the algorithm and the first digits, which the name of the file contains
    licence: str
    box_ap: float  # published AP on COCO val2017, percent
    source: str  # the page that publishes it
    settings: Mapping[str, str] = MappingProxyType({})  # values that differ from the recipe
    mask_ap: float | None = None  # published mask AP; None without a mask head

    @property
    def file(self) -> str:
        """The name of the file. It must be kept: import-weights compares the digest in it."""
        return self.address.rsplit("/", 1)[1]

    def commands(self, workdir: str, folder: str = ".") -> list[list[str]]:
        """The commands that import the file in `folder` and score it on the evaluation set of the recipe."""
        recipe = ["--config", self.recipe, *(f"--config.{key}={value}" for key, value in self.settings.items())]
        place = self.file if folder == "." else f"{folder}/{self.file}"
        return [
            ["lga_jax", "import-weights", *recipe, "--weights", place, "--workdir", workdir],
            ["lga_jax", "eval", *recipe, "--workdir", workdir],
        ]


def _torchvision(version: int, digest: str, box_ap: float, mask_ap: float | None = None) -> PublicDetector:
    suffix = "_v2" if version == 2 else ""
    kind, part = ("faster", "") if mask_ap is None else ("mask", "mask_")
    return PublicDetector(
        f"coco_{part}torchvision_v{version}",
        f"https://download.pytorch.org/models/{kind}rcnn_resnet50_fpn{suffix}_coco-{digest}.pth",
        f"sha256:{digest}",
        _TORCHVISION,
        box_ap,
        _TORCHVISION_TABLE,
        # These weights were made without an epsilon in the frozen norms.
        MappingProxyType({"model.backbone.norm_eps": "0"} if version == 1 else {}),
        mask_ap,
    )


def _detectron2(
    kind: str, schedule: str, run: int, digest: str, box_ap: float, mask_ap: float | None = None
) -> PublicDetector:
    """`kind`: the first part of the name of Detectron2's configuration; `run`: its model id."""
    group = "Detection" if kind.startswith("faster") else "InstanceSegmentation"
    folder = "Misc" if kind.startswith("cascade") else f"COCO-{group}"
    settings = dict(_CASCADE) if kind.startswith("cascade") else {}
    if mask_ap is not None:
        settings |= _MASKS
    if "R_101" in kind:
        settings["model.backbone.depth"] = "101"
    return PublicDetector(
        f"coco_detectron2_{schedule}",
        f"https://dl.fbaipublicfiles.com/detectron2/{folder}/{kind}_FPN_{schedule}/{run}/model_final_{digest}.pkl",
        f"md5:{digest}",
        _DETECTRON2,
        box_ap,
        _MODEL_ZOO,
        MappingProxyType(settings),
        mask_ap,
    )


DETECTORS = {
    "torchvision-v1": _torchvision(1, "258fb6c6", 37.0),
    "torchvision-v2": _torchvision(2, "dd69338a", 46.7),
    "torchvision-mask-v1": _torchvision(1, "bf2d0c1e", 37.9, 34.6),
    "torchvision-mask-v2": _torchvision(2, "73cbd019", 47.4, 41.8),
    "detectron2-r50-1x": _detectron2("faster_rcnn_R_50", "1x", 137257794, "b275ba", 37.9),
    "detectron2-r50-3x": _detectron2("faster_rcnn_R_50", "3x", 137849458, "280758", 40.2),
    "detectron2-r101-3x": _detectron2("faster_rcnn_R_101", "3x", 137851257, "f6e8b1", 42.0),
    "detectron2-mask-r50-1x": _detectron2("mask_rcnn_R_50", "1x", 137260431, "a54504", 38.6, 35.2),
    "detectron2-mask-r50-3x": _detectron2("mask_rcnn_R_50", "3x", 137849600, "f10217", 41.0, 37.2),
    "detectron2-mask-r101-3x": _detectron2("mask_rcnn_R_101", "3x", 138205316, "a3ec72", 42.9, 38.6),
    "detectron2-cascade-r50-3x": _detectron2("cascade_mask_rcnn_R_50", "3x", 144998488, "480dd8", 44.3, 38.5),
}


class PublicBackbone(NamedTuple):
    """ImageNet weights of a backbone, for model.init_from."""

    place: str  # the value of model.init_from, or the address of a file to download
    backbone: str
    licence: str
    recipe: str  # a recipe that begins with such weights
    settings: Mapping[str, str] = MappingProxyType({})  # values that differ from the recipe


_SWIN_V2 = MappingProxyType({"model.backbone.version": "2"})
BACKBONES = (
    PublicBackbone("hf://timm/resnet50.tv_in1k/model.safetensors", "ResNet-50", "BSD-3-Clause", "coco"),
    PublicBackbone("hf://timm/resnet50.a1_in1k/model.safetensors", "ResNet-50", "Apache-2.0", "coco_rsb"),
    PublicBackbone(
        "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl",
        "ResNet-50",
        _DETECTRON2,
        "coco_detectron2_1x",
    ),
    PublicBackbone(
        "https://download.pytorch.org/models/convnext_tiny-983f1562.pth",
        "ConvNeXt-T",
        _TORCHVISION,
        "coco_convnext_t",
    ),
    PublicBackbone("hf://timm/convnext_tiny.fb_in1k/model.safetensors", "ConvNeXt-T", "Apache-2.0", "coco_convnext_t"),
    PublicBackbone("https://download.pytorch.org/models/swin_t-704ceda3.pth", "Swin-T", _TORCHVISION, "coco_swin_t"),
    PublicBackbone("hf://timm/swin_tiny_patch4_window7_224.ms_in1k/model.safetensors", "Swin-T", "MIT", "coco_swin_t"),
    PublicBackbone(
        "https://download.pytorch.org/models/swin_v2_t-b137f0e2.pth", "Swin-T V2", _TORCHVISION, "coco_swin_t", _SWIN_V2
    ),
    PublicBackbone(
        "hf://timm/swinv2_tiny_window8_256.ms_in1k/model.safetensors", "Swin-T V2", "MIT", "coco_swin_t", _SWIN_V2
    ),
    PublicBackbone("https://download.pytorch.org/models/vit_b_16-c867db91.pth", "ViT-B", _TORCHVISION, "coco_vitdet_b"),
    PublicBackbone(
        "hf://timm/vit_base_patch16_224.mae/model.safetensors", "ViT-B", "CC-BY-NC-4.0", "coco_vitdet_b"
    ),  # not for commercial use
    PublicBackbone("package://efficientnet_lite0", "EfficientNet-Lite0", "Apache-2.0", "coco_json_small"),
)


def find_detector(name: str) -> PublicDetector:
    """A detector of the list. Raises UserError for an unknown name."""
    if name not in DETECTORS:
        raise UserError(
            f"detector {name}", expected=f"one of {', '.join(DETECTORS)}", found="another name", remedy="correct it"
        )
    return DETECTORS[name]


def check_file(detector: PublicDetector, path: Path) -> None:
    """Compares a file with the digest of the list. Raises UserError if it differs."""
    algorithm, expected = detector.digest.split(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if not found.startswith(expected):
        raise UserError(
            f"weights {path}",
            expected=f"a file whose {algorithm} begins with {expected}",
            found=found[: len(expected)],
            remedy="delete it and download it again",
        )


def shell(command: list[str]) -> str:
    """A command as one types it."""
    return shlex.join(command)
