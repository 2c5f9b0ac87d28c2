"""Compares a training step of a small detector on small images with torchvision's, alternating on the same machine.

    python -m benchmarks.small_step

The network is that of configs/challenge.py without attention: ResNet-18 of half the usual width, group norm, an FPN of
96 channels, 16 images of 160 x 160 pixels, 64 RoIs each, AdamW with clipped gradients. torchvision's FasterRCNN gets a
backbone with the same layers, and runs eagerly in channels_last or, if that is faster, in its default form. lga_jax's
commands take huge pages (lga_jax/command_line/huge_pages.py); all programs are measured with usual and with huge ones.
Both have random weights and the same number of parameters, but for the box deltas of the background, which only
torchvision has. Processes and turns are those of benchmarks.against_torchvision. `CPU-s` is the time of all threads: it
tells more than wall time on a machine with other work. Needs torch and torchvision (the extra `bench`).
"""

import argparse
import itertools
import math
import statistics
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from benchmarks import timing
from benchmarks.against_torchvision import Process, Seconds, by_kind, serve

IMAGES, SIDE, NUM_BOXES, NUM_CLASSES = 16, 160, 5, 6
TORCHVISION = ("torchvision channels_last", "torchvision contiguous")
PROGRAMS = (
    *TORCHVISION,
    "torchvision channels_last huge_pages",
    "lga_jax none",
    "lga_jax none huge_pages",
    "lga_jax lga huge_pages",
)
GOAL = 0.7


def rows(args: argparse.Namespace) -> Iterator[dict]:
    seconds: dict[str, list[Seconds]] = {program: [] for program in PROGRAMS}
    quick = ["--quick"] * args.quick
    with ExitStack() as stack:
        processes = {
            program: stack.enter_context(
                Process("small_step", "--program", program, *quick, huge_pages=program.endswith("huge_pages"))
            )
            for program in PROGRAMS
        }
        for _ in range(args.rounds):
            for program, process in processes.items():
                seconds[program].append(process.call())
    wall, cpu = by_kind(seconds)
    theirs = min(TORCHVISION, key=lambda name: statistics.median(cpu[name]))
    for program in PROGRAMS:
        yield {
            "table": f"Training step of a small detector, {IMAGES} images of {SIDE} x {SIDE}",
            "what": program,
            **timing.spread(wall[program]),
            "CPU-s": statistics.median(cpu[program]),
            "time / torchvision's": timing.ratio(wall[program], wall[theirs]),
            "CPU time / torchvision's": timing.ratio(cpu[program], cpu[theirs]),
            "goal": f"<= {GOAL}" if program == "lga_jax none huge_pages" else "",
        }


def recipe(attention: str, quick: bool) -> ConfigDict:
    from configs.challenge import get_config

    config = get_config()
    config.model.attention = attention
    config.batch_size = 2 if quick else IMAGES
    return config


def random_examples(num_images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[b h w 3] uint8, [b n 4] xyxy in pixels, [b n] classes from 0."""
    random = np.random.default_rng(0)
    corners = random.uniform(0, 0.6 * SIDE, (num_images, NUM_BOXES, 2))
    boxes = np.concatenate([corners, corners + random.uniform(12, 0.4 * SIDE, corners.shape)], axis=-1)
    images = random.integers(0, 256, (num_images, SIDE, SIDE, 3), dtype=np.uint8)
    return images, boxes.astype(np.float32), random.integers(0, NUM_CLASSES, (num_images, NUM_BOXES)).astype(np.int32)


def torchvision_detector(config: ConfigDict) -> Any:
    """FasterRCNN with the layers and the numbers of samples of the recipe."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.rpn import AnchorGenerator

    model, pyramid = config.model, tuple((size,) for size in config.model.anchors.sizes)
    backbone = BackboneWithFPN(
        _resnet18(model.backbone.width),
        {f"layer{number}": str(number - 1) for number in range(1, 5)},
        [model.backbone.width * 2**stage for stage in range(4)],
        model.fpn.channels,
    )
    return FasterRCNN(
        backbone,
        min_size=SIDE,
        max_size=SIDE,
        rpn_anchor_generator=AnchorGenerator(pyramid, (tuple(model.anchors.aspect_ratios),) * len(pyramid)),
        rpn_pre_nms_top_n_train=model.proposals.pre_nms_train,
        rpn_post_nms_top_n_train=model.proposals.post_nms_train,
        rpn_batch_size_per_image=model.anchor_sampling.num_samples,
        box_batch_size_per_image=model.roi_sampling.num_samples,
        box_head=TwoMLPHead(model.fpn.channels * model.roi_align.crop_size**2, model.box_head.hidden),
        box_predictor=FastRCNNPredictor(model.box_head.hidden, NUM_CLASSES + 1),
    )


def _resnet18(width: int) -> Any:
    import torch
    from torchvision.models.resnet import BasicBlock, conv1x1

    def norm(channels: int) -> Any:
        return torch.nn.GroupNorm(channels // math.gcd(16, channels), channels)

    layers = {
        "conv1": torch.nn.Conv2d(3, width, 7, 2, 3, bias=False),
        "norm1": norm(width),
        "relu": torch.nn.ReLU(inplace=True),
        "pool": torch.nn.MaxPool2d(3, 2, 1),
    }
    widths = [width, *(width * 2**stage for stage in range(4))]
    for stage, (channels, planes) in enumerate(itertools.pairwise(widths), start=1):
        stride = 1 if stage == 1 else 2
        shortcut = None if stage == 1 else torch.nn.Sequential(conv1x1(channels, planes, stride), norm(planes))
        layers[f"layer{stage}"] = torch.nn.Sequential(
            BasicBlock(channels, planes, stride, shortcut, norm_layer=norm),
            BasicBlock(planes, planes, norm_layer=norm),
        )
    return torch.nn.Sequential(OrderedDict(layers))


def run_torchvision(form: str, quick: bool) -> None:
    import torch

    torch.manual_seed(0)
    config = recipe("none", quick)
    images, boxes, labels = random_examples(config.batch_size)
    detector = torchvision_detector(config).train()
    print(sum(p.numel() for p in detector.parameters()), "parameters", file=sys.stderr)
    if form == "channels_last":
        detector = detector.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(detector.parameters(), config.optim.lr, weight_decay=config.optim.weight_decay)
    targets = [
        {"boxes": torch.from_numpy(b), "labels": torch.from_numpy(lab + 1).long()}
        for b, lab in zip(boxes, labels, strict=True)
    ]

    def step() -> None:
        inputs = [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images]
        loss = sum(detector(inputs, targets).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), config.optim.clip_norm)
        optimizer.step()
        assert np.isfinite(loss.item())

    serve(step)


def run_lga_jax(attention: str, quick: bool) -> None:
    import jax

    from lga_jax.models.build import build_detector, init_variables
    from lga_jax.models.freezing import frozen_labels
    from lga_jax.structs import Batch, Targets
    from lga_jax.training.optimizer import make_optimizer
    from lga_jax.training.step import create_state, make_train_step

    config = recipe(attention, quick)
    images, boxes, labels = random_examples(config.batch_size)
    batch = Batch(
        images=images,
        image_hw=np.full((len(images), 2), SIDE, np.float32),
        scale_hw=np.ones((len(images), 2), np.float32),
        targets=Targets(boxes=boxes, labels=labels, valid=np.ones(labels.shape, bool)),
        index=np.arange(len(images), dtype=np.int32),
    )
    batch = jax.tree.map(lambda leaf: leaf[None], batch)
    detector = build_detector(config.model, NUM_CLASSES)
    variables = init_variables(detector, 0)
    print(sum(leaf.size for leaf in jax.tree.leaves(variables["params"])), "parameters", file=sys.stderr)
    labels = frozen_labels(variables["params"], detector.backbone)
    optimizer, _ = make_optimizer(config.optim, config.batch_size, config.num_steps, labels)
    train_step = make_train_step(detector, optimizer, config.losses.to_dict(), ema_decay=0.0, seed=0)
    held = [create_state(variables, optimizer, ema=False)]

    def step() -> None:
        held[0], metrics = train_step(held[0], batch)
        assert np.isfinite(float(metrics["total"]))

    serve(step)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", choices=PROGRAMS)
    parser.add_argument("--quick", action="store_true")
    args, _ = parser.parse_known_args()
    if args.program is None:
        # Imported by name, so that `rows` is the same function as in other modules.
        from benchmarks import small_step

        return timing.main(small_step.rows, __doc__)
    library, form, *_ = args.program.split()
    run = {"lga_jax": run_lga_jax, "torchvision": run_torchvision}[library]
    return run(form, args.quick)


if __name__ == "__main__":
    main()
