"""torchvision's Faster and Mask R-CNN with random weights, and lga_jax's with the same."""

import functools
import os
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from configs import coco_mask_torchvision_v1, coco_mask_torchvision_v2, coco_torchvision_v1, coco_torchvision_v2
from lga_jax.data.challenge.source import Challenge
from lga_jax.models.build import build_detector, init_variables
from lga_jax.models.detector import Detector
from lga_jax.weights.files import Weights
from lga_jax.weights.load import load_pretrained
from tests.parity.reference import array, tensor, torch, torchvision

PHOTOS = Path(os.environ.get("LGA_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")) / "coco_tiny80"
_models = torchvision.models.detection
_FrozenBatchNorm = torchvision.ops.FrozenBatchNorm2d

# torchvision has 91 classes, the ids of COCO: 0 is background, and ten were never used. We have the other 80.
_CATEGORIES = _models.FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
_UNUSED = [i for i, name in enumerate(_CATEGORIES) if name == "N/A"]
COCO_IDS = np.array([i for i, name in enumerate(_CATEGORIES) if name not in ("__background__", "N/A")])


class Pair(NamedTuple):
    """The same network twice."""

    theirs: torch.nn.Module
    ours: Detector
    variables: dict[str, Any]
    config: ConfigDict

    def part(self, module, name, inputs, *train, method="__call__"):
        """The result of a module of our detector, with stored statistics. `name`: its entry in the variables."""
        variables = {kind: tree[name] for kind, tree in self.variables.items() if name in tree}
        apply = jax.jit(lambda variables, inputs: module.apply(variables, inputs, *train, method=method))
        return apply(variables, inputs)

    def in_our_layout(self, arrays):
        """Arrays by torchvision's names, such as the gradients of its parameters, as a tree of our variables."""
        return _load(arrays, self.variables, self.config)


@functools.cache
def pair(version, depth, masks=False):
    """Version 1 or 2 of torchvision's Faster R-CNN on a ResNet of 18 or 50 layers, and ours. `masks`: Mask R-CNN."""
    torch.manual_seed(0)
    recipes = {
        1: (coco_torchvision_v1, coco_mask_torchvision_v1, _version_1),
        2: (coco_torchvision_v2, coco_mask_torchvision_v2, _version_2),
    }
    boxes_only, with_masks, build = recipes[version]
    recipe = with_masks if masks else boxes_only
    config = recipe.get_config()
    config.model.dtype = "float32"
    config.model.backbone.depth = depth
    config.model.init_strict = True
    theirs = build(depth, masks)
    if (version, depth) == (1, 50):  # torchvision's choice for the published weights
        config.model.backbone.norm_eps = 0.0
    _models._utils.overwrite_eps(theirs, config.model.backbone.norm_eps)
    theirs.transform.resize = lambda image, target: (image, target)  # images come at the size the network is to see
    _randomise(theirs, photos([(256, 320), (320, 256)]))
    ours = build_detector(config.model, len(COCO_IDS))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), jax.eval_shape(lambda: init_variables(ours, 0)))
    state = {name: array(value) for name, value in theirs.state_dict().items()}
    return Pair(theirs, ours, _load(state, zeros, config), config)


def _load(arrays, variables, config):
    names = [_CATEGORIES[i] for i in COCO_IDS]
    loaded, _ = load_pretrained(Weights("torchvision", arrays), variables, names, config.model.to_dict())
    return jax.tree.map(jnp.asarray, loaded)


def _version_1(depth, masks):
    """As fasterrcnn_resnet50_fpn or maskrcnn_resnet50_fpn, with their frozen norms and stages of loaded weights."""
    resnet = torchvision.models.get_model(f"resnet{depth}", weights=None, norm_layer=_FrozenBatchNorm)
    detector = _models.MaskRCNN if masks else _models.FasterRCNN
    return detector(_models.backbone_utils._resnet_fpn_extractor(resnet, 3), len(_CATEGORIES))


def _version_2(depth, masks):
    """fasterrcnn_resnet50_fpn_v2 or maskrcnn_resnet50_fpn_v2, or the same on a smaller backbone."""
    norm = torch.nn.BatchNorm2d
    if depth == 50:
        build = _models.maskrcnn_resnet50_fpn_v2 if masks else _models.fasterrcnn_resnet50_fpn_v2
        return build(weights=None, weights_backbone=None)
    resnet = torchvision.models.get_model(f"resnet{depth}", weights=None)
    head = {"mask_head": _models.mask_rcnn.MaskRCNNHeads(256, [256] * 4, 1, norm_layer=norm)} if masks else {}
    return (_models.MaskRCNN if masks else _models.FasterRCNN)(
        _models.backbone_utils._resnet_fpn_extractor(resnet, 5, norm_layer=norm),
        len(_CATEGORIES),
        rpn_head=_models.rpn.RPNHead(256, 3, conv_depth=2),
        box_head=_models.faster_rcnn.FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], norm_layer=norm),
        **head,
    )


def _randomise(model, images):
    """Random weights with which every layer answers `images` with values of ordinary size, detections are many and
    their scores are spread.

    Norms get statistics near those of their input, so that the signal neither dies nor explodes in fifty layers, and
    residual branches add little, as in a trained network: with branches as strong as the trunk, a random network
    amplifies rounding a thousand times. Every channel of a layer behind the backbone gets a random mean, and the
    spread given here.
    """
    generator = torch.Generator().manual_seed(0)
    head, predictor = model.rpn.head, model.roi_heads.box_predictor
    spread = {head.cls_logits: 1.5, head.bbox_pred: 0.3, predictor.cls_score: 1.5, predictor.bbox_pred: 1.0}
    if model.roi_heads.has_mask():
        spread[model.roi_heads.mask_predictor.mask_fcn_logits] = 1.5

    def normal(like, std):
        return torch.randn(like.shape, generator=generator) * std

    def uniform(like, low, high):
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    def set_norm(norm, inputs):
        mean, std = inputs[0].mean((0, 2, 3)), inputs[0].std((0, 2, 3))
        norm.running_mean.copy_(mean + 0.3 * std * normal(mean, 1.0))
        norm.running_var.copy_(std**2 * uniform(std, 0.7, 1.5) + 1e-3)
        norm.weight.copy_(uniform(mean, 0.5, 1.5) * (0.2 if norm in ends else 1.0))
        norm.bias.copy_(normal(mean, 0.2))

    def set_layer(layer, inputs, output):
        hooks.pop(layer).remove()  # the RPN's run once for each level
        others = [axis for axis in range(output.dim()) if axis != 1]
        std = spread.get(layer, 1.0)
        scale = std / output.std(others)
        layer.bias.copy_((layer.bias - output.mean(others)) * scale + normal(layer.bias, 0.3 * std))
        leading = [1] if isinstance(layer, torch.nn.ConvTranspose2d) else []  # its first axis is that of the input
        layer.weight.mul_(scale.reshape(*leading, -1, *[1] * (layer.weight.dim() - 1 - len(leading))))
        return layer.forward(inputs[0])

    blocks = [module for module in model.modules() if hasattr(module, "downsample")]
    ends = {block.bn3 if hasattr(block, "bn3") else block.bn2 for block in blocks}
    hooks = {}
    for name, module in model.named_modules():
        if isinstance(module, (_FrozenBatchNorm, torch.nn.BatchNorm2d)):
            hooks[module] = module.register_forward_pre_hook(set_norm)
        elif not name.startswith("backbone.body") and getattr(module, "bias", None) is not None:
            hooks[module] = module.register_forward_hook(set_layer)
    with torch.no_grad():
        model.eval()([pixels(image) for image in images])
        predictor.cls_score.bias[0] += 6.5  # most of an image is background
        # Ours does not have the unused classes, so they must not take a share of the scores.
        predictor.cls_score.weight[_UNUSED] = 0.0
        predictor.cls_score.bias[_UNUSED] = -1e4
    for hook in hooks.values():
        hook.remove()
    for pool in (model.roi_heads.box_roi_pool, model.roi_heads.mask_roi_pool):
        if pool is not None:
            pool.scales = None  # it remembers those of the first images


def photos(sizes):
    """One image [h, w, 3] of each size (height, width): COCO's where they are, generated ones elsewhere."""
    files = sorted(PHOTOS.glob("val2017/*.jpg"))[: len(sizes)]
    if len(files) == len(sizes):
        images = [cv2.imread(str(file), cv2.IMREAD_COLOR_RGB) for file in files]
    else:
        source = Challenge(len(sizes))
        images = [source.image(i) for i in range(len(sizes))]
    return [cv2.resize(image, hw[::-1]) for image, hw in zip(images, sizes, strict=True)]


def pixels(image):
    """What torchvision takes: [3, h, w] in 0..1."""
    return tensor(image.transpose(2, 0, 1).astype(np.float32) / 255)


def padded(images, multiple=32):
    """What we take: images [b, h, w, 3] with zeros up to a multiple of 32, as torchvision pads, and image_hw [b, 2]."""
    image_hw = np.array([image.shape[:2] for image in images])
    batch = np.zeros((len(images), *(-(-image_hw.max(axis=0) // multiple) * multiple), 3), np.uint8)
    for row, image in zip(batch, images, strict=True):
        row[: image.shape[0], : image.shape[1]] = image
    return jnp.asarray(batch), jnp.asarray(image_hw, jnp.float32)
