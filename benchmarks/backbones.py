"""Backbones for CPUs and depthwise convolution, forward and forward + backward; larger ones beside torchvision's own.

    python -m benchmarks.backbones [--only depthwise,backbones] [--image_hw 320,320] [--images 4] [--rounds 5]
    python -m benchmarks.backbones --only torchvision --image_hw 224,224 --images 1

The rows of a table run in turn. Backbones have frozen batch norm and two frozen parts, as in the recipes for
small data; the gradient is of the sum of squares of C2..C5. Depthwise layers are from EfficientNet-Lite0 with the
sizes for 320 x 320 pixels; "XLA" is jax.lax.conv_general_dilated with feature_group_count.

The table "torchvision" needs torchvision (the extra `bench`). Both libraries run in this process, in turn, float32,
with random weights. The gradient is of the sum of squares of the four stages; for ViT, of the last map: ours also has
its pyramid, torchvision's a class token. Its seconds are those of the processor: user and system, all threads.
torchvision has one thread.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from benchmarks.timing import random_floats
from lga_jax.models.backbones.convnext import ConvNeXt
from lga_jax.models.backbones.efficientnet_lite import EfficientNetLite
from lga_jax.models.backbones.resnet import ResNet
from lga_jax.models.backbones.swin import Swin
from lga_jax.models.backbones.vit import ViT
from lga_jax.ops.cpu.depthwise import depthwise_conv2d, xla_depthwise_conv2d

RULE = dict(norm="frozen_bn", frozen_stages=2)
BACKBONES = {
    "ResNet-18": ResNet(depth=18, width=64, **RULE),
    "EfficientNet-Lite0": EfficientNetLite(variant=0, **RULE),
}
# Our backbone, and torchvision's builder of the same network.
LARGE = {
    "ConvNeXt-T": (ConvNeXt(variant="tiny", frozen_stages=0), "convnext_tiny"),
    "Swin-T": (Swin(variant="tiny", version=1, frozen_stages=0), "swin_t"),
    "ViT-B": (ViT(variant="base", frozen_stages=0), "vit_b_16"),
}
LAYERS = ((160, 32, 3, 1), (160, 96, 3, 2), (80, 144, 5, 2), (40, 240, 5, 1), (20, 480, 3, 1), (10, 1152, 5, 1))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", default="depthwise,backbones", help="Tables to measure.")
    parser.add_argument("--image_hw", default="320,320", help="Height,width in pixels.")
    parser.add_argument("--images", type=int, default=4, help="Images at a time.")


def rows(args: argparse.Namespace) -> Iterator[dict]:
    if args.quick:
        args.image_hw, args.images = "32,32", 1
    for name in args.only.split(","):
        yield from {"depthwise": depthwise, "backbones": backbones, "torchvision": beside_torchvision}[name](args)


def depthwise(args: argparse.Namespace) -> Iterator[dict]:
    for side, channels, size, stride in LAYERS[-1:] if args.quick else LAYERS:
        x = random_floats(0, args.images, side, side, channels)
        kernel = random_floats(1, size, size, channels)
        weight = random_floats(2, *jax.eval_shape(lambda x, k, s=stride: depthwise_conv2d(x, k, s), x, kernel).shape)
        calls = {}
        for form, function in (("ours", depthwise_conv2d), ("XLA", xla_depthwise_conv2d)):
            calls |= _calls(form, lambda x, k, f=function, s=stride: f(x, k, s), (x, kernel), weight)
        taken = timing.in_turn(calls, args.rounds)
        for what, seconds in taken.items():
            title = f"{size} x {size}, stride {stride}, {side} x {side} x {channels}: {what}"
            ratio = timing.ratio(seconds, taken[what.replace("ours", "XLA")])
            yield {"table": "Depthwise convolution", "what": title, **timing.spread(seconds), "time ratio": ratio}


def backbones(args: argparse.Namespace) -> Iterator[dict]:
    x = random_floats(0, args.images, *map(int, args.image_hw.split(",")), 3)
    calls = {}
    for name, backbone in BACKBONES.items():
        calls |= _backbone_calls(name, backbone, x)
    taken = timing.in_turn(calls, args.rounds)
    for what, seconds in taken.items():
        ratio = timing.ratio(seconds, taken[f"ResNet-18, {what.split(', ')[1]}"])
        yield {"table": f"Backbones, {args.images} x {args.image_hw}", "what": what, **timing.spread(seconds)} | {
            "time ratio": ratio
        }


def _backbone_calls(name: str, backbone: Any, x: jax.Array) -> dict[str, Callable]:
    variables = jax.jit(backbone.init, static_argnums=2)(jax.random.key(0), x[:1, :32, :32], False)
    statistics = variables.get("batch_stats", {})

    def loss(params: Any, x: jax.Array) -> jax.Array:
        features = backbone.apply({"params": params, "batch_stats": statistics}, x, True)
        return sum(jnp.vdot(level, level) for level in features)

    forward, both = jax.jit(loss), jax.jit(jax.value_and_grad(loss))
    params = variables["params"]
    return {f"{name}, forward": lambda: forward(params, x), f"{name}, forward + backward": lambda: both(params, x)}


def beside_torchvision(args: argparse.Namespace) -> Iterator[dict]:
    x = random_floats(0, args.images, *map(int, args.image_hw.split(",")), 3)
    for name, (backbone, builder) in LARGE.items():
        calls = _backbone_calls("lga_jax", backbone, x) | _torchvision_calls(builder, x)
        for call in calls.values():
            jax.block_until_ready(call())
        taken = {what: [] for what in calls}
        for _ in range(args.rounds):
            for what, call in calls.items():
                start = time.process_time()
                jax.block_until_ready(call())
                taken[what].append(time.process_time() - start)
        for what, seconds in taken.items():
            ratio = timing.ratio(seconds, taken[what.replace("lga_jax", "torchvision")])
            row = {"table": f"Beside torchvision, {args.images} x {args.image_hw}", "what": f"{name}, {what}"}
            yield row | {"median, CPU-s": statistics.median(seconds), "least, CPU-s": min(seconds), "time ratio": ratio}


def _torchvision_calls(builder: str, x: jax.Array) -> dict[str, Callable]:
    import torch
    import torchvision

    torch.set_num_threads(1)  # its threads wait for each other at full load, which would count
    network = getattr(torchvision.models, builder)().eval()  # without stochastic depth
    images = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy())

    def loss() -> Any:
        if builder.startswith("vit"):
            tokens = network._process_input(images)
            return (
                network.encoder(torch.cat([network.class_token.expand(len(images), -1, -1), tokens], 1)).square().sum()
            )
        y, total = images, 0.0
        for number, layer in enumerate(network.features):
            y = layer(y)
            total = total + (y.square().sum() if number % 2 else 0.0)  # a stage after each reduction
        return total

    def forward() -> None:
        with torch.no_grad():
            loss()

    def both() -> None:
        network.zero_grad()
        loss().backward()

    return {"torchvision, forward": forward, "torchvision, forward + backward": both}


def _calls(form: str, function: Callable, operands: tuple, weight: jax.Array) -> dict[str, Callable]:
    """Compiled calls by name: the function, and the function with its gradient with respect to both operands."""
    forward = jax.jit(function)
    both = jax.jit(jax.value_and_grad(lambda *operands: jnp.vdot(function(*operands), weight), (0, 1)))
    return {f"{form}, forward": lambda: forward(*operands), f"{form}, forward + backward": lambda: both(*operands)}


if __name__ == "__main__":
    timing.main(rows, __doc__, add_arguments)
