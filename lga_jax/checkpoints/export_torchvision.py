"""Exports a checkpoint as a state dict of torchvision's Faster R-CNN."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from lga_jax.checkpoints.manifest import Manifest
from lga_jax.checkpoints.read import restore_params
from lga_jax.errors import UserError
from lga_jax.files import write_atomically
from lga_jax.terminal import say
from lga_jax.weights.compatibility import lookup
from lga_jax.weights.torchvision_export import EPSILON, to_torchvision, torchvision_version

# Arguments of torchvision's constructors: (default, config key).
_ARGUMENTS = {
    "rpn_pre_nms_top_n_test": (1000, "model.proposals.pre_nms_test"),
    "rpn_post_nms_top_n_test": (1000, "model.proposals.post_nms_test"),
    "rpn_nms_thresh": (0.7, "model.proposals.nms_iou"),
    "box_score_thresh": (0.05, "inference.score_threshold"),
    "box_nms_thresh": (0.5, "inference.nms_iou"),
    "box_detections_per_img": (100, "inference.max_detections"),
    "min_size": (800, "data.eval_short_edge"),
    "max_size": (1333, "data.long_edge"),
}

# Config keys without an argument in torchvision, with the values of configs/coco_torchvision_v1.py.
# max_candidates has no limit in torchvision.
_FIXED = {
    "data.size_rounding": "floor",
    "data.resize": "bilinear",
    "model.proposals.min_size": 1e-3,
    "inference.min_size": 0.01,
    "inference.max_candidates": 1000,
}


def export_weights(workdir: str, step: int | str, output: str) -> None:
    """Writes the detector of a step (a number, 'best' or 'latest') and prints how to load it in torchvision.

    Raises UserError if the file exists, cannot be written, or torchvision cannot compute the model.
    """
    path = Path(output)
    formats = {".safetensors": _safetensors, ".pth": _torch}
    if path.suffix not in formats:
        raise UserError(
            f"--output {output}",
            expected=f"the extension {' or '.join(formats)}",
            found=repr(path.suffix),
        )
    if path.exists():
        raise UserError(
            f"--output {output}",
            expected="a new file",
            found="an existing file",
            remedy="remove it or choose another name",
        )
    saved = restore_params(workdir, step)
    config = saved.manifest["config"]
    try:
        state = to_torchvision(saved.variables, config["model"])
    except UserError as error:
        raise error.within(f"workdir {workdir}, step {saved.step}") from None
    write_atomically(path, formats[path.suffix](state, saved.manifest))
    say(f"written: {output}, {len(state)} arrays of {saved.title}, {len(saved.manifest['class_names'])} classes")
    say(f"torchvision loads it into {constructor(config, len(saved.manifest['class_names']))}")
    if others := differences(config):
        say(f"torchvision's detections will differ a little: {'; '.join(others)}")


def constructor(config: Mapping[str, Any], num_classes: int) -> str:
    """The torchvision call that builds the same detector. `config` is the config of a manifest."""
    model, depth = config["model"], config["model"]["backbone"]["depth"]
    arguments = {"num_classes": num_classes + 1}  # torchvision counts the background
    for argument, (default, key) in _ARGUMENTS.items():
        value = lookup(config, key)
        if value != default:
            arguments[argument] = value
    listed = ", ".join(f"{name}={value}" for name, value in arguments.items())
    if torchvision_version(model) == 1 and depth != 50:
        detector = "MaskRCNN" if lookup(model, "mask_head.enabled") else "FasterRCNN"
        return f"{detector}(resnet_fpn_backbone(backbone_name='resnet{depth}', weights=None), {listed})"
    kind = "mask" if lookup(model, "mask_head.enabled") else "faster"
    name = f"{kind}rcnn_resnet50_fpn{'' if torchvision_version(model) == 1 else '_v2'}"
    return f"{name}(weights=None, weights_backbone=None, {listed})"


def differences(config: Mapping[str, Any]) -> list[str]:
    """Config values that torchvision cannot be given and that change its detections."""
    values = {key: lookup(config, key) for key in _FIXED}
    return [f"{key} is {value}, torchvision has {_FIXED[key]}" for key, value in values.items() if value != _FIXED[key]]


def _safetensors(state: Mapping[str, np.ndarray], manifest: Manifest) -> bytes:
    about = {key: manifest[key] for key in ("class_names", "category_ids")}
    about["model"] = {"backbone": {"norm_eps": EPSILON}}
    return save(dict(state), {"format": "pt", **{key: json.dumps(value) for key, value in about.items()}})


def _torch(state: Mapping[str, np.ndarray], manifest: Manifest) -> bytes:
    try:
        import torch
    except ImportError:
        raise UserError(
            "--output",
            expected="the package torch to write .pth",
            found="no such package",
            remedy="pip install 'lga_jax[torch]', or choose the extension .safetensors",
        ) from None
    written = io.BytesIO()
    torch.save({name: torch.from_numpy(np.array(value)) for name, value in state.items()}, written)
    return written.getvalue()
