"""State dicts as other projects write them, of the tiny detector and its backbones, with random numbers.

Written out from the names in torchvision's, Detectron2's and Caffe2's files, not from the code under test.
"""

import re

import numpy as np

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class _Writer:
    """Collects arrays by name."""

    def __init__(self, prefix=""):
        self.prefix, self.arrays, self.random = prefix, {}, np.random.default_rng(0)

    def add(self, name, *shape, scale=0.2):
        self.arrays[self.prefix + name] = (self.random.normal(size=shape) * scale).astype(np.float32)

    def biased(self, name, *shape):
        self.add(f"{name}.weight", *shape)
        self.add(f"{name}.bias", shape[0])

    def conv_norm(self, conv, norm, *shape):
        self.add(f"{conv}.weight", *shape)
        self.norm(norm, shape[0])

    def norm(self, name, size):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            values = self.random.uniform(0.5, 1.5, size).astype(np.float32)
            self.arrays[f"{self.prefix}{name}.{leaf}"] = values
        self.arrays[f"{self.prefix}{name}.num_batches_tracked"] = np.array(7)


def resnet(depth=18, width=8, prefix=""):
    """torchvision's names."""
    writer = _Writer(prefix)
    writer.conv_norm("conv1", "bn1", width, 3, 7, 7)
    expansion = 4 if depth >= 50 else 1
    previous = width
    for stage, count in enumerate(BLOCKS[depth], start=1):
        inner = width * 2 ** (stage - 1)
        outer = inner * expansion
        for number in range(count):
            block = f"layer{stage}.{number}"
            if expansion == 4:
                shapes = [(inner, previous, 1, 1), (inner, inner, 3, 3), (outer, inner, 1, 1)]
            else:
                shapes = [(inner, previous, 3, 3), (inner, inner, 3, 3)]
            for i, shape in enumerate(shapes, start=1):
                writer.conv_norm(f"{block}.conv{i}", f"{block}.bn{i}", *shape)
            if previous != outer:
                writer.conv_norm(f"{block}.downsample.0", f"{block}.downsample.1", outer, previous, 1, 1)
            previous = outer
    return writer.arrays


def torchvision_detector(version=1, depth=18, num_classes=3, width=8, channels=16, hidden=32):
    """fasterrcnn_resnet50_fpn (1) or _v2 (2), in small; `num_classes` without the background."""
    writer = _Writer()
    expansion = 4 if depth >= 50 else 1
    for i in range(4):
        shapes = {"inner": (channels, width * 2**i * expansion, 1, 1), "layer": (channels, channels, 3, 3)}
        for block, shape in shapes.items():
            name = f"backbone.fpn.{block}_blocks.{i}"
            if version == 2:
                writer.conv_norm(f"{name}.0", f"{name}.1", *shape)
            else:
                writer.biased(f"{name}.0", *shape)
    for i in range(version):
        writer.biased(f"rpn.head.conv.{i}.0", channels, channels, 3, 3)
    writer.biased("rpn.head.cls_logits", 3, channels, 1, 1)
    writer.biased("rpn.head.bbox_pred", 12, channels, 1, 1)
    size = channels * 7 * 7
    if version == 2:
        for i in range(4):
            name = f"roi_heads.box_head.{i}"
            writer.conv_norm(f"{name}.0", f"{name}.1", channels, channels, 3, 3)
        writer.biased("roi_heads.box_head.5", hidden, size)
    else:
        writer.biased("roi_heads.box_head.fc6", hidden, size)
        writer.biased("roi_heads.box_head.fc7", hidden, hidden)
    writer.biased("roi_heads.box_predictor.cls_score", num_classes + 1, hidden)
    writer.biased("roi_heads.box_predictor.bbox_pred", 4 * (num_classes + 1), hidden)
    return resnet(depth, width, "backbone.body.") | writer.arrays


def torchvision_mask_head(version=1, num_classes=3, channels=16, hidden=8, num_convs=1):
    """What maskrcnn_resnet50_fpn (1) or its _v2 (2) has beside the detector."""
    writer = _Writer("roi_heads.")
    for i in range(num_convs):
        shape = (hidden, hidden if i else channels, 3, 3)
        if version == 2:
            writer.conv_norm(f"mask_head.{i}.0", f"mask_head.{i}.1", *shape)
        else:
            writer.biased(f"mask_head.{i}.0", *shape)
    writer.biased("mask_predictor.conv5_mask", hidden, hidden, 2, 2)
    writer.biased("mask_predictor.mask_fcn_logits", num_classes + 1, hidden, 1, 1)
    return writer.arrays


def detectron2_mask_head():
    """The same mask head as torchvision_mask_head(1), as Detectron2 has it: without a mask of the background."""
    renamed = {}
    for name, value in torchvision_mask_head().items():
        name = name.replace("mask_head.0.0", "mask_head.mask_fcn1").replace(
            "mask_predictor.conv5_mask", "mask_head.deconv"
        )
        value = value[1:] if "mask_fcn_logits" in name else value
        renamed[name.replace("mask_predictor.mask_fcn_logits", "mask_head.predictor")] = value
    return renamed


def with_old_names(arrays):
    """A version 1 state dict as torchvision wrote it before 0.13."""
    return {
        re.sub(r"(_blocks\.\d)\.0\.", r"\1.", name)
        .replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        .replace("mask_head.0.0.", "mask_head.mask_fcn1."): value
        for name, value in arrays.items()
    }


def detectron2_backbone(arrays):
    """torchvision's backbone under Detectron2's names."""
    renamed = {}
    for name, value in arrays.items():
        name = re.sub(r"^(conv1|bn1|fc)\.", r"stem.\1.", name)
        name = re.sub(r"layer(\d)", lambda found: f"res{int(found[1]) + 1}", name)
        name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        renamed[re.sub(r"bn(\d)", r"conv\1.norm", name)] = value
    return renamed


def detectron2_detector(depth=18, num_classes=3):
    """The same detector as torchvision_detector(1), as Detectron2 has it: background last and without a box."""
    arrays = torchvision_detector(1, depth, num_classes)
    body = "backbone.body."
    backbone = {name.removeprefix(body): value for name, value in arrays.items() if name.startswith(body)}
    renamed = {f"backbone.bottom_up.{name}": value for name, value in detectron2_backbone(backbone).items()}
    parts = {
        **{f"backbone.fpn.inner_blocks.{i}.0": f"backbone.fpn_lateral{i + 2}" for i in range(4)},
        **{f"backbone.fpn.layer_blocks.{i}.0": f"backbone.fpn_output{i + 2}" for i in range(4)},
        "rpn.head.conv.0.0": "proposal_generator.rpn_head.conv",
        "rpn.head.cls_logits": "proposal_generator.rpn_head.objectness_logits",
        "rpn.head.bbox_pred": "proposal_generator.rpn_head.anchor_deltas",
        "roi_heads.box_head.fc6": "roi_heads.box_head.fc1",
        "roi_heads.box_head.fc7": "roi_heads.box_head.fc2",
        "roi_heads.box_predictor.cls_score": "roi_heads.box_predictor.cls_score",
        "roi_heads.box_predictor.bbox_pred": "roi_heads.box_predictor.bbox_pred",
    }
    for theirs, ours in parts.items():
        for leaf in ("weight", "bias"):
            value = arrays[f"{theirs}.{leaf}"]
            if theirs.endswith("cls_score"):
                value = np.concatenate([value[1:], value[:1]])
            elif theirs.startswith("roi_heads") and theirs.endswith("bbox_pred"):
                value = value[4:]
            renamed[f"{ours}.{leaf}"] = value
    return renamed


def detectron2_cascade(num_stages, num_classes=3):
    """The detector with a box head per stage, one box for all classes and a mask head."""
    arrays = {}
    for name, value in detectron2_detector(num_classes=num_classes).items():
        if "bbox_pred" in name:
            value = value[:4]
        if not name.startswith("roi_heads"):
            arrays[name] = value
            continue
        heads, head, module = name.split(".", 2)
        for stage in range(num_stages):
            arrays[f"{heads}.{head}.{stage}.{module}"] = value + stage
    return arrays | {"roi_heads.mask_head.mask_fcn1.bias": np.zeros(4, np.float32)}


def caffe2_backbone(arrays, spelled_out=False):
    """torchvision's backbone under the names of Detectron's R-50.pkl, in either spelling of batch norm."""
    leaves = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    if spelled_out:
        leaves = {
            "weight": "gamma",
            "bias": "beta",
            "running_mean": "running_mean",
            "running_var": "running_var",
        }
    renamed = {}
    for name, value in arrays.items():
        module, leaf = name.rsplit(".", 1)
        if leaf == "num_batches_tracked":
            continue
        is_norm = "bn" in module or module.endswith("downsample.1")
        place = re.match(r"layer(\d)\.(\d+)\.", module)
        if not place:
            module = "res_conv1_bn" if is_norm else "conv1"
        else:
            number = re.search(r"(?:conv|bn)(\d)$", module)
            branch = f"branch2{'abc'[int(number[1]) - 1]}" if number else "branch1"
            module = f"res{int(place[1]) + 1}_{place[2]}_{branch}{'_bn' if is_norm else ''}"
        renamed[f"{module}_{leaves[leaf] if is_norm else 'w'}"] = value
    return renamed


def fold(arrays):
    """Batch norm folded into weight and bias of its convolution, as files for inference have it."""
    folded = {}
    for name in [name for name in arrays if name.endswith("running_var")]:
        norm = name.removesuffix(".running_var")
        conv = norm.replace("bn", "conv").replace("downsample.1", "downsample.0")
        scale = arrays[f"{norm}.weight"] / np.sqrt(arrays[f"{norm}.running_var"] + 1e-5)
        folded[f"{conv}.weight"] = arrays[f"{conv}.weight"] * scale[:, None, None, None]
        folded[f"{conv}.bias"] = arrays[f"{norm}.bias"] - arrays[f"{norm}.running_mean"] * scale
    return folded
