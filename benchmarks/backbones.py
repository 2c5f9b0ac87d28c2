"""Backbones for CPUs and depthwise convolution, forward and forward + backward.

    python -m benchmarks.backbones [--only depthwise,backbones] [--image_hw 320,320] [--images 4] [--rounds 5]

The rows of a table run in turn. Backbones have frozen batch norm and two frozen parts, as in the recipes for
small data; the gradient is of the sum of squares of C2..C5. Depthwise layers are from EfficientNet-Lite0 with the
sizes for 320 x 320 pixels; "XLA" is jax.lax.conv_general_dilated with feature_group_count.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import timing
from benchmarks.timing import random_floats
from lga_jax.models.backbones.efficientnet_lite import EfficientNetLite
from lga_jax.models.backbones.resnet import ResNet
from lga_jax.ops.cpu.depthwise import depthwise_conv2d, xla_depthwise_conv2d

RULE = dict(norm="frozen_bn", frozen_stages=2)
BACKBONES = {
    "ResNet-18": ResNet(depth=18, width=64, **RULE),
    "EfficientNet-Lite0": EfficientNetLite(variant=0, **RULE),
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
        yield from {"depthwise": depthwise, "backbones": backbones}[name](args)


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
        variables = backbone.init(jax.random.key(0), x[:1, :32, :32], False)
        statistics = variables["batch_stats"]

        def loss(params: Any, x: jax.Array, backbone: Any = backbone, statistics: Any = statistics) -> jax.Array:
            features = backbone.apply({"params": params, "batch_stats": statistics}, x, True)
            return sum(jnp.vdot(level, level) for level in features)

        forward, both = jax.jit(loss), jax.jit(jax.value_and_grad(loss))
        calls[f"{name}, forward"] = lambda f=forward, p=variables["params"]: f(p, x)
        calls[f"{name}, forward + backward"] = lambda f=both, p=variables["params"]: f(p, x)
    taken = timing.in_turn(calls, args.rounds)
    for what, seconds in taken.items():
        ratio = timing.ratio(seconds, taken[f"ResNet-18, {what.split(', ')[1]}"])
        yield {"table": f"Backbones, {args.images} x {args.image_hw}", "what": what, **timing.spread(seconds)} | {
            "time ratio": ratio
        }


def _calls(form: str, function: Callable, operands: tuple, weight: jax.Array) -> dict[str, Callable]:
    """Compiled calls by name: the function, and the function with its gradient with respect to both operands."""
    forward = jax.jit(function)
    both = jax.jit(jax.value_and_grad(lambda *operands: jnp.vdot(function(*operands), weight), (0, 1)))
    return {f"{form}, forward": lambda: forward(*operands), f"{form}, forward + backward": lambda: both(*operands)}


if __name__ == "__main__":
    timing.main(rows, __doc__, add_arguments)
