"""The parts of benchmarks/device_run.sh, each in a process of its own.

    python -m benchmarks.device_parts --part step --images 16 [--quick]

step and prediction: seconds to compile, milliseconds, images/s and memory of `configs/coco.py` at 800 x 1344, with
random weights and a batch that is on the device. profile: the kernels of three steps that take most time. operations:
RoIAlign with its gradient, NMS and `top_k` at the sizes of the step. torchvision: its training step with autocast.
"""

import argparse
import collections
import functools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import step as stages
from benchmarks import timing
from lga_jax.inference.step import make_predict_step
from lga_jax.models.build import build_detector, init_variables
from lga_jax.ops.nms import nms
from lga_jax.ops.roi_align import multilevel_roi_align
from lga_jax.ops.topk import top_k

CALLS, TOP = 10, 40


def measured(call: Callable[[], Any], images: int) -> dict[str, float]:
    """The first call compiles. Then three calls to warm up, and the median of three times ten calls."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    first = time.perf_counter() - start
    for _ in range(3):
        jax.block_until_ready(call())
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(CALLS):
            result = call()
        jax.block_until_ready(result)
        taken.append((time.perf_counter() - start) / CALLS)
    median = sorted(taken)[1]
    memory = jax.local_devices()[0].memory_stats() or {}
    return {
        "first call, s": first,
        "median, ms": 1e3 * median,
        "images/s": images * jax.local_device_count() / median,
        "peak, GB": memory.get("peak_bytes_in_use", 0) / 1e9,
    }


def prepared(args: argparse.Namespace) -> tuple[Any, Any, dict, Any]:
    """(recipe, detector, variables, batch)"""
    config = stages.recipe(args)
    detector = build_detector(config.model, stages.NUM_CLASSES)
    return config, detector, init_variables(detector, 0), stages.random_batch(args, num_boxes=args.boxes)


def step(args: argparse.Namespace) -> Iterator[dict]:
    call, flops = stages.train_step(*prepared(args))
    found = measured(call, args.images)
    yield {**found, "TFLOP/s": flops / found["median, ms"] / 1e9, "flags": os.environ.get("XLA_FLAGS", "").strip()}


def prediction(args: argparse.Namespace) -> Iterator[dict]:
    config, detector, variables, batch = prepared(args)
    call = make_predict_step(detector, config.inference)
    yield measured(lambda: call(variables, batch), args.images)


def profile(args: argparse.Namespace) -> Iterator[dict]:
    call, _ = stages.train_step(*prepared(args))
    jax.block_until_ready(call())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(3):
                result = call()
            jax.block_until_ready(result)
        (path,) = Path(folder).rglob("*.xplane.pb")
        taken = kernel_times(jax.profiler.ProfileData.from_file(str(path)))
    for name, nanoseconds in taken.most_common(TOP):
        yield {"kernel": name, "ms a step": nanoseconds / 3e6}


def kernel_times(data: Any) -> collections.Counter:
    """Nanoseconds by name, of the lines of devices; of all lines where the profile has no device (a CPU)."""
    planes = list(data.planes)
    taken = collections.Counter()
    for plane in [plane for plane in planes if plane.name.startswith("/device:")] or planes:
        for line in plane.lines:
            for event in line.events:
                taken[event.name] += event.duration_ns
    return taken


def operations(args: argparse.Namespace) -> Iterator[dict]:
    """Inputs are random; each operation of one image is mapped over all."""
    images, (height, width) = args.images, (int(side) for side in args.image_hw.split(","))
    rows = 2_000 if not args.quick else 64
    corners = jax.random.uniform(jax.random.key(0), (images, 5, rows, 2)) * jnp.array([width, height]) * 0.8
    boxes = jnp.concatenate([corners, corners + 16 + 0.1 * width], axis=-1)
    scores = jax.random.uniform(jax.random.key(1), (images, 5, rows))
    suppress = jax.jit(jax.vmap(jax.vmap(lambda *given: nms(*given, 0.7))))
    yield {"operation": f"NMS, {images} x 5 x {rows}"} | measured(lambda: suppress(boxes, scores), images)
    anchors = jax.random.uniform(jax.random.key(2), (images, height * width // 4))
    chosen = jax.jit(jax.vmap(lambda row: top_k(row, 256 if not args.quick else 8)))
    yield {"operation": f"top_k of {anchors.shape[1]}"} | measured(lambda: chosen(anchors), images)
    pyramid = [
        jnp.ones((images, height // stride, width // stride, 256 if not args.quick else 8), jnp.bfloat16)
        for stride in (4, 8, 16, 32)
    ]
    rois = boxes[:, 0, :512]
    align = functools.partial(multilevel_roi_align, strides=(4, 8, 16, 32), crop_size=7, sampling_ratio=2, aligned=True)
    both = jax.jit(jax.grad(lambda maps: jax.vmap(align)(maps, rois).astype(jnp.float32).sum()))
    yield {"operation": "RoIAlign and its gradient"} | measured(lambda: both(pyramid), images)


def torchvision(args: argparse.Namespace) -> Iterator[dict]:
    """torchvision's Faster R-CNN R50-FPN: forward, backward and SGD, autocast to bfloat16, channels_last."""
    import torch
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    device = "cuda" if torch.cuda.is_available() else "cpu"
    height, width = (int(side) for side in args.image_hw.split(","))
    model = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=min(height, width), max_size=max(height, width)
    )
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    images = [torch.rand(3, height, width, device=device) for _ in range(args.images)]
    boxes = torch.rand(args.boxes, 2, device=device) * min(height, width) * 0.6
    boxes = torch.cat([boxes, boxes + 16 + 0.1 * min(height, width)], dim=1)
    targets = [{"boxes": boxes, "labels": torch.ones(args.boxes, dtype=torch.int64, device=device)} for _ in images]

    def call() -> None:
        with torch.autocast(device, torch.bfloat16):
            total = sum(model(images, targets).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    global CALLS
    CALLS = 3 if not args.quick else 1
    yield measured(call, args.images)


PARTS = {function.__name__: function for function in (step, prediction, profile, operations, torchvision)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", required=True, choices=PARTS)
    parser.add_argument("--quick", action="store_true", help="Tiny sizes: does it run?")
    parser.add_argument("--json", action="store_true", help="Accepted as by other benchmarks; rows are always JSON.")
    parser.add_argument("--boxes", type=int, default=20, help="Objects in an image.")
    stages.add_config(parser)
    parser.set_defaults(image_hw="800,1344")
    args, args.overrides = parser.parse_known_args()
    if args.quick:
        args.image_hw, args.images = "64,64", 2
        args.overrides = [*args.overrides, *stages.TINY, "--config.model.dtype=float32"]
        jax.config.update("jax_disable_most_optimizations", True)
    for row in PARTS[args.part](args):
        print(json.dumps({"table": args.part, "images": args.images, "machine": timing.describe_machine()} | row))


if __name__ == "__main__":
    main()
